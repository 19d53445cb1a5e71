"""What lies in the tables is what the gauges say, also when it lies there no more; and each role may read its own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from prometheus_client import REGISTRY

from services.export import store as export
from services.notify import store as notify
from services.review import store as review
from shared.runtime import ledger
from shared.runtime.database import Database, connect
from shared.runtime.embedded import Postgres

COUNTS = {"intake": "", "review": review.COUNTS, "notify": notify.COUNTS, "export": export.COUNTS}


@asynccontextmanager
async def engine(url: str) -> AsyncIterator[Database]:
    database = connect(url, "test")
    try:
        yield database
    finally:
        await database.dispose()


def read(url: str, service: str) -> float:
    async def go() -> float:
        async with engine(url) as database:
            return await ledger.read(database, service, COUNTS[service])

    return asyncio.run(go())


def value(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


DEAD = (
    "insert into {0}.dead (stream, seq, subject, headers, body, received, code, why, state, at) values "
    "('SME_IN', {1}, 's', '{{}}', '', now(), '{2}', 'w', '{3}', now() - interval '2 hours')"
)


def test_what_is_dead_is_counted_with_its_age_until_somebody_sees_to_it(
    postgres: Postgres, database: str
) -> None:
    url = postgres.dsn(database)
    for seq, code, state in ((1, "schema", "dead"), (2, "schema", "dead"), (3, "internal", "replayed")):
        postgres.sql(DEAD.format("intake", seq, code, state), database)
    read(url, "intake")
    assert value("yiqi_dead_messages", service="intake", code="schema") == 2
    assert value("yiqi_dead_oldest_seconds", service="intake", code="schema") == pytest.approx(7200, abs=60)
    assert value("yiqi_dead_messages", service="intake", code="internal") is None
    assert value("yiqi_outbox_messages", service="intake") == 0
    assert value("yiqi_outbox_oldest_seconds", service="intake") == 0
    postgres.sql("update intake.dead set state = 'discarded'", database)
    read(url, "intake")
    assert value("yiqi_dead_messages", service="intake", code="schema") is None
    assert value("yiqi_dead_oldest_seconds", service="intake", code="schema") is None


MAIL = (
    'insert into notify.mail (id, key, letter, to_code, to_name, params, attachments, state, "when", '
    "not_before, settled_at) values (gen_random_uuid(), gen_random_uuid()::text, 'judged', 'x', 'x', '{{}}', '[]', "
    "'{0}', '{1}', now() + interval '{2}', now() - interval '3 hours')"
)


def test_a_queued_mail_is_late_only_when_it_might_have_left(postgres: Postgres, database: str) -> None:
    url = postgres.dsn(database)
    postgres.sql(
        MAIL.format("queued", "hours", "-10 hours"), database
    )  # comes due at night, and waits for the morning
    postgres.sql(MAIL.format("queued", "now", "1 hour"), database)
    for state in ("unknown", "sent", "merged"):
        postgres.sql(MAIL.format(state, "now", "-5 hours"), database)
    read(url, "notify")
    assert value("yiqi_ledger_mails", state="queued") == 2
    assert value("yiqi_ledger_mails_oldest_seconds", state="queued") == 0
    assert value("yiqi_ledger_mails", state="unknown") == 1
    assert value("yiqi_ledger_mails_oldest_seconds", state="unknown") == pytest.approx(3 * 3600, abs=60)
    assert value("yiqi_ledger_mails", state="sent") is None
    postgres.sql(MAIL.format("queued", "now", "-20 minutes"), database)
    read(url, "notify")
    assert value("yiqi_ledger_mails_oldest_seconds", state="queued") == pytest.approx(1200, abs=60)


def test_cases_dates_and_catalogues_are_counted_where_they_stand(postgres: Postgres, database: str) -> None:
    url = postgres.dsn(database)
    for n, (stage, wakes, provisional) in enumerate(
        (("acceptance", "-1 hour", "true"), ("acceptance", "1 hour", "false"), ("closed", "", "false"))
    ):
        when = f"now() + interval '{wakes}'" if wakes else "null"
        postgres.sql(
            'insert into review."case" ("case", number, notice, form, stage, version, revision, filer, unit, district, '
            'item_kind, title, "values", findings, late, filed, entered, provisional, wakes) values '
            f"(gen_random_uuid(), 'N-{n}', 'n', 'F1', '{stage}', 1, 1, '{{}}', 'u', 'd', 'k', 't', '{{}}', '[]', "
            f"false, now(), now(), {provisional}, {when})",
            database,
        )
    postgres.sql(
        "insert into export.stale values ('n', 'F1', 2, now() - interval '1 hour', now(), 'f', 'b', 'e')",
        database,
    )
    read(url, "review")
    assert value("yiqi_cases", notice="n", stage="acceptance") == 2
    assert value("yiqi_cases", notice="n", stage="closed") == 1
    assert value("yiqi_provisional_dates", kind="case") == 1
    assert value("yiqi_provisional_dates", kind="duty") == 0
    assert value("yiqi_due_unhandled", kind="case") == 1
    assert value("yiqi_due_unhandled_oldest_seconds", kind="case") == pytest.approx(3600, abs=60)
    assert value("yiqi_due_unhandled_oldest_seconds", kind="duty") == 0
    read(url, "export")
    assert value("yiqi_catalogues_stale", notice="n", form="F1") == 1
    assert value("yiqi_catalogues_stale_oldest_seconds", notice="n", form="F1") == pytest.approx(3600, abs=60)


@pytest.mark.parametrize("service", COUNTS)
def test_a_reading_tells_when_it_was_and_comes_again_by_what_it_cost(
    postgres: Postgres, database: str, service: str
) -> None:
    pause = read(postgres.dsn(database), service)
    assert pause >= ledger.EVERY
    assert (value("yiqi_ledger_read_timestamp_seconds", service=service) or 0) > 1_600_000_000
