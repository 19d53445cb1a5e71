"""What lies in a service's tables, as gauges: read now and then by one query of the service that owns them.

What a service counts as it goes is in `metrics.py`; nothing here is asked for by a message.
"""

import asyncio
import logging
import time

from prometheus_client import Gauge

from shared.runtime import metrics
from shared.runtime.database import Database, Row

log = logging.getLogger("yiqi.ledger")

EVERY = 20.0
"""Seconds from one reading to the next at least."""
SHARE = 100
"""And so many times as long as the reading took: however large the tables become, it is a hundredth of one core."""

OWN = """
select 'dead' as what, code as a, '' as b, count(*) as n, min(at) as since from {0}.dead where state = 'dead' group by code
union all select 'outbox', '', '', count(*), min(at) from {0}.outbox
"""

GAUGES: dict[str, tuple[Gauge, Gauge | None]] = {
    "dead": (metrics.DEAD_NOW, metrics.DEAD_AGE),
    "outbox": (metrics.OUTBOX, metrics.OUTBOX_AGE),
    "mails": (metrics.LEDGER, metrics.LEDGER_AGE),
    "cases": (metrics.CASES, None),
    "provisional": (metrics.PROVISIONAL, None),
    "due": (metrics.RIPE, metrics.RIPE_AGE),
    "catalogues": (metrics.STALE, metrics.STALE_AGE),
}
"""By the first column of the query; the next two are their labels, behind the service where that is one."""


async def read(engine: Database, service: str, more: str = "") -> float:
    """Set the gauges; returns the seconds until they may be read again. `more` are the service's own selects, each with
    `what, a, b, n, since`."""
    began = time.monotonic()
    async with engine.connect() as conn:
        rows = await conn.read(
            f"select what, a, b, n, extract(epoch from now() - since)::float8 as age from ({OWN.format(service)}{more}) f"
        )
    show(service, rows)
    return max(EVERY, SHARE * (time.monotonic() - began))


def show(service: str, rows: list[Row]) -> None:
    for gauges in GAUGES.values():
        for gauge in gauges:
            if gauge is not None:
                gauge.clear()  # what is no more in the tables must not stay
    for row in rows:
        count, age = GAUGES[row.what]
        said = {"service": service} if "service" in count._labelnames else {}
        names = [name for name in count._labelnames if name != "service"]
        labels = {**said, **dict(zip(names, (row.a, row.b), strict=False))}
        count.labels(**labels).set(row.n)
        if age is not None:
            age.labels(**labels).set(max(0.0, row.age or 0.0))
    metrics.READ.labels(service).set_to_current_time()


async def watch(engine: Database, service: str, more: str) -> None:
    while True:
        pause = EVERY
        try:
            pause = await read(engine, service, more)
        except Exception as error:  # noqa: BLE001 - who cannot count goes on working; READ tells that it is old
            log.warning("tables not read", extra={"error_type": type(error).__name__})
        await asyncio.sleep(pause)
