"""What every service counts, by message; labels come from closed sets, never ids.

FastStream's own middleware is not used: in batch mode it counts a batch as one message.
"""

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, which nobody reads

HANDLED = Counter("yiqi_events_handled_total", "Events that had their effect", ["event"])
DUPLICATES = Counter("yiqi_events_duplicate_total", "Events that were known already", ["event"])
REFUSED = Counter("yiqi_events_refused_total", "Events answered with a problem", ["event"])
DEAD = Counter("yiqi_events_dead_total", "Messages put into dead rows", ["service", "code"])
HELD = Counter("yiqi_batches_held_total", "Attempts that met an outage and were repeated")
PUBLISHED = Counter("yiqi_messages_published_total", "Messages acknowledged by a stream")
UNPUBLISHED = Counter("yiqi_messages_unpublished_total", "Messages left to the sweeper")
FORBIDDEN = Counter("yiqi_bus_forbidden_total", "Subjects that the bus let us neither say nor hear")
SWEPT = Counter("yiqi_messages_swept_total", "Messages that the sweeper had to publish")
BATCH = Histogram(
    "yiqi_batch_messages", "Messages per transaction", buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500)
)
LAG = Histogram(
    "yiqi_event_lag_seconds",
    "From the bus storing an event to its effect being committed, and told on the bus",
    ["consumer", "event"],
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300),
)
PENDING = Gauge("yiqi_consumer_pending", "Messages not yet delivered", ["consumer"])
UNACKED = Gauge("yiqi_consumer_unacked", "Messages delivered and not yet acknowledged", ["consumer"])
CERTIFICATE = Gauge(
    "yiqi_bus_certificate_ends_timestamp_seconds",
    "Until when the certificate of the bus is good; 0 without TLS",
)
LEFT_OUT = Counter("yiqi_log_fields_left_out_total", "Fields that a log line was not allowed to have")
ANSWERS = Counter("yiqi_door_answers_total", "Requests answered at the HTTP door", ["kind", "code"])
MAILS = Counter("yiqi_mails_total", "Mails by letter and what became of them", ["letter", "state"])
BOUNCES = Counter("yiqi_bounces_total", "What came back, and what was refused as forged", ["kind"])
ROWS = Counter("yiqi_rows_judged_total", "Annex rows judged", ["form", "outcome"])
BROKEN = Counter("yiqi_findings_total", "Findings by rule", ["rule", "severity"])
DECISIONS = Counter("yiqi_decisions_total", "Decisions by stage and outcome", ["stage", "outcome"])
CATALOGUES = Counter("yiqi_catalogues_total", "Versions of catalogues that were published", ["form"])
RECEIPT = Histogram(
    "yiqi_receipt_seconds",
    "From the bus storing what was filed to the relay taking the mail that answers it",
    ["letter"],
    buckets=(1, 2.5, 5, 10, 20, 30, 60, 120, 300, 900, 3600),
)
BUILD = Gauge("yiqi_build_info", "Always 1: the service and its release", ["service", "version"])

# What lies in the tables, read now and then by `ledger.py`: every replica of a service says the same.
DEAD_NOW = Gauge("yiqi_dead_messages", "Messages that wait for a person", ["service", "code"])
DEAD_AGE = Gauge("yiqi_dead_oldest_seconds", "How long the oldest of them has waited", ["service", "code"])
OUTBOX = Gauge("yiqi_outbox_messages", "Messages committed and not yet known to be on the bus", ["service"])
OUTBOX_AGE = Gauge("yiqi_outbox_oldest_seconds", "How long the oldest of them has waited", ["service"])
LEDGER = Gauge("yiqi_ledger_mails", "Mails that are not done with, or went wrong", ["state"])
LEDGER_AGE = Gauge(
    "yiqi_ledger_mails_oldest_seconds",
    "How long the oldest has waited: since it was due where it is queued, else since it came into that state",
    ["state"],
)
CASES = Gauge("yiqi_cases", "Cases by where they stand", ["notice", "stage"])
PROVISIONAL = Gauge("yiqi_provisional_dates", "Dates that hang on a year without a calendar", ["kind"])
RIPE = Gauge("yiqi_due_unhandled", "Dates that have passed and of which nothing has come yet", ["kind"])
RIPE_AGE = Gauge("yiqi_due_unhandled_oldest_seconds", "How long ago the oldest of them passed", ["kind"])
STALE = Gauge("yiqi_catalogues_stale", "Annexes that changed after their catalogue", ["notice", "form"])
STALE_AGE = Gauge("yiqi_catalogues_stale_oldest_seconds", "How long ago they did", ["notice", "form"])
READ = Gauge("yiqi_ledger_read_timestamp_seconds", "When the tables were last read", ["service"])
