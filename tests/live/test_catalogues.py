"""Catalogues that follow what is published: one of a hundred rows, each version once, whatever ends in between.

Export is called by hand, with time as an argument; the service as a process is in `test_flow.py`.
"""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import nats
import pytest

from services.export import formats, handlers, store
from services.export.handlers import AT_MOST, QUIET
from shared.contracts import registry
from shared.contracts.catalogue import CatalogueRequested
from shared.contracts.envelope import derived_id
from shared.runtime.decode import Raw
from shared.runtime.embedded import Nats, Postgres
from shared.runtime.streams import IN, provision
from tests.live.catalogue_lab import (
    BEGIN,
    CITY,
    NOTICE,
    POINTS,
    Replica,
    closed,
    dying,
    published,
    replica,
    said,
    stored,
)

LONG = QUIET.total_seconds()


@pytest.fixture
def here(nats_server: Nats, postgres: Postgres, database: str) -> tuple[str, str]:
    return postgres.dsn(database), nats_server.url


@asynccontextmanager
async def lab(here: tuple[str, str], *, fresh: bool = True) -> AsyncIterator[Replica]:
    dsn, url = here
    if fresh:
        client = await nats.connect(url)
        js = client.jetstream(timeout=5)
        for info in await js.streams_info():
            await js.delete_stream(str(info.config.name))
        await provision(js)
        await client.close()
    async with replica(dsn, url) as one:
        yield one


async def facts(one: Replica) -> list[tuple[str, bool, int]]:
    """(fact, public, version) of everything that was said."""
    return [
        (e["type"].split(".")[-2], e["data"]["public"], e["data"]["version"])
        for e in await said(one.context.jetstream)
    ]


# --- what leads to a catalogue ---------------------------------------------------------------------------


async def test_publishing_and_closing_make_a_version_each_in_both_variants(here: tuple[str, str]) -> None:
    async with lab(here) as one:
        await one.publish(1, 2)
        await one.sweep(LONG)
        assert await one.versions() == await one.versions(public=True) == [(1, 2)]
        await one.hear(closed(1, outcome="revoke"))
        await one.sweep(LONG)
        assert await one.versions() == [(1, 2), (2, 1)]
        assert await facts(one) == [
            ("published", False, 1),
            ("published", True, 1),
            ("published", False, 2),
            ("superseded", False, 1),
            ("published", True, 2),
            ("superseded", True, 1),
        ]
        told = await said(one.context.jetstream)
        first, last, gone = told[0]["data"], told[2]["data"], told[3]["data"]
        assert (gone["sha256"], gone["by"], gone["rows"], gone["fact"]) == (
            first["sha256"],
            2,
            1,
            "case.closed",
        )
        for file in last["files"]:
            assert await stored(one.context.client, file["object"]) == file["sha256"]
        assert [f["format"] for f in last["files"]] == list(formats.FORMATS)
        (kept,) = await one.rows(
            "select fact, by, event, at from export.version where version = 2 and not public"
        )
        assert (kept["fact"], kept["by"]) == ("case.closed", CITY)
        assert str(kept["event"]) == derived_id(registry.CASE_CLOSED.ce_type, 1, 4)
        assert await one.marks() == []


async def test_the_last_row_gone_leaves_an_empty_catalogue_and_a_first_one_is_never_empty(
    here: tuple[str, str],
) -> None:
    async with lab(here) as one:
        await one.hear(closed(7))
        await one.sweep(LONG)
        assert await one.versions() == []
        assert await one.marks() == []
        await one.publish(1)
        await one.sweep(LONG)
        await one.hear(closed(1))
        await one.sweep(LONG)
        assert await one.versions() == [(1, 1), (2, 0)]


async def test_what_changes_nothing_is_no_version(here: tuple[str, str]) -> None:
    """Of a case that was never shown, and the same once more."""
    async with lab(here) as one:
        await one.publish(1)
        await one.sweep(LONG)
        await one.hear(closed(2), published(1))
        await one.sweep(LONG)
        assert await one.versions() == [(1, 1)]
        assert await one.marks() == []


async def test_the_request_of_the_city_is_answered_at_once_and_said_once(here: tuple[str, str]) -> None:
    async with lab(here) as one:
        await one.publish(1)
        await asked(one, "ask")
        assert await one.versions() == [(1, 1)]
        assert await one.versions(public=True) == []  # as asked
        (kept,) = await one.rows("select fact, by from export.version")
        assert kept == {"fact": "catalogue.requested", "by": CITY}
        await one.sweep(LONG)  # the mark is still there; what it leads to is the other variant alone
        assert await facts(one) == [("published", False, 1), ("published", True, 1)]
        await asked(one, "ask")
        assert await one.versions() == [(1, 1)]


async def asked(one: Replica, *ids: str) -> None:
    """The city asks for F3, under these ids, all in one batch."""
    data = CatalogueRequested(notice=NOTICE, form="F3")
    type_ = registry.CATALOGUE_REQUESTED
    events = [type_.event(data, id_, at=BEGIN, source=f"urn:cn:gov:gz:{CITY}:oa") for id_ in ids]
    raws = [Raw(type_.subject(CITY), e.wire(), None, IN, n, BEGIN) for n, e in enumerate(events, 1)]
    await one.context.delivery.handle("export-in", raws)


async def test_what_is_asked_for_again_is_not_printed_again(
    here: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until something that is printed has changed, be it that contact data was let go; then once."""
    printed, render = [], formats.render

    def counted(*arguments: Any, **named: Any) -> Any:
        printed.append(named)
        return render(*arguments, **named)

    monkeypatch.setattr(formats, "render", counted)
    async with lab(here) as one:
        await one.publish(1)
        await asked(one, *(f"ask-{n}" for n in range(10)))
        assert (len(printed), await one.versions()) == (1, [(1, 1)])
        await one.rows("delete from export.contact returning true as gone")
        await asked(one, "after")
        assert (len(printed), await one.versions()) == (2, [(1, 1), (2, 1)])
        await asked(one, "and again")
        assert len(printed) == 2
        monkeypatch.setattr(formats, "content", lambda *_, **__: str(uuid4()))
        await asked(one, "control")
        await asked(one, "control too")
        assert (len(printed), await one.versions()) == (4, [(1, 1), (2, 1)])
        await asked(one, "once", "for", "all")
        assert len(printed) == 5


# --- no storm --------------------------------------------------------------------------------------------


async def storm(one: Replica, *, seconds: float = 1) -> None:
    """A hundred rows, ten at a time, a sweep after each; then quiet."""
    for start in range(0, 100, 10):
        await one.publish(*range(start, start + 10))
        await one.sweep(seconds)
    await one.sweep(LONG)


async def test_a_hundred_rows_are_one_catalogue(here: tuple[str, str]) -> None:
    async with lab(here) as one:
        await storm(one)
        assert await one.versions() == [(1, 100)]


async def test_control_without_the_pause_a_hundred_rows_are_ten_catalogues(
    here: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handlers, "QUIET", timedelta(0))
    async with lab(here) as one:
        await storm(one)
        assert [rows for _, rows in await one.versions()] == list(range(10, 101, 10))


async def test_what_never_pauses_is_made_from_time_to_time(here: tuple[str, str]) -> None:
    """Sixty seconds in which a row comes every second: not sixty catalogues, and not none."""
    async with lab(here) as one:
        for n in range(61):
            await one.publish(n)
            await one.sweep(1)
        assert len(await one.versions()) == 60 // AT_MOST.total_seconds()


async def test_what_changes_while_a_catalogue_is_made_is_in_the_next(
    here: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    await _late_row(here, monkeypatch)


async def test_control_a_mark_that_is_forgotten_unread_loses_a_row(
    here: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def careless(conn: Any, done: store.Mark) -> None:
        conn.later("delete from export.stale where form = :form", {"form": done.form})

    monkeypatch.setattr(store, "settle", careless)
    with pytest.raises(AssertionError):
        await _late_row(here, monkeypatch)


async def _late_row(here: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    shown, came = store.shown, asyncio.Event()

    async with lab(here) as one:

        async def slow(*arguments: Any) -> Any:
            rows = await shown(*arguments)
            if not came.is_set():
                came.set()
                await one.publish(2)  # does not wait for who makes the catalogue
            return rows

        monkeypatch.setattr(store, "shown", slow)
        await one.publish(1)
        await one.sweep(LONG)
        await one.sweep(LONG)
        assert await one.marks() == []
        assert (await one.versions())[-1][1] == 2


# --- replicas and crashes --------------------------------------------------------------------------------


async def test_of_several_replicas_one_makes_it(here: tuple[str, str]) -> None:
    async with lab(here) as one, lab(here, fresh=False) as two, lab(here, fresh=False) as three:
        await one.publish(*range(50))
        before = formats_made()
        await asyncio.gather(one.sweep(LONG), two.sweep(LONG), three.sweep(LONG))
        assert formats_made() - before == 2  # variants
        assert await facts(one) == [("published", False, 1), ("published", True, 1)]


def formats_made() -> float:
    from prometheus_client import REGISTRY

    return REGISTRY.get_sample_value("yiqi_catalogues_total", {"form": "F3"}) or 0.0


async def test_an_annex_that_cannot_be_made_keeps_no_other_from_it(
    here: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    render = formats.render

    def broken(notice: Any, form: Any, *more: Any, **named: Any) -> Any:
        if form.id == "F3":
            raise RuntimeError("a bug that one annex meets")
        return render(notice, form, *more, **named)

    async with lab(here) as one:
        monkeypatch.setattr(formats, "render", broken)
        await one.hear(published(1), published(2, "F4"))
        await one.sweep(LONG)
        assert [m[0] for m in await one.marks()] == ["F3"]
        assert [row["form"] for row in await one.rows("select distinct form from export.catalogue")] == ["F4"]
        monkeypatch.undo()
        await one.sweep(1)
        assert await one.versions() == []  # it is not tried every second
        await one.sweep(AT_MOST.total_seconds())
        assert await one.versions() == [(1, 1)]


@pytest.mark.parametrize("point", POINTS)
async def test_a_process_may_end_anywhere(here: tuple[str, str], point: str) -> None:
    """By SIGKILL; whoever comes after makes the same version, says it once, and its files are those announced."""
    async with lab(here) as one:
        await one.publish(1, 2, 3)
        assert await dying(*here, point) == -signal.SIGKILL
        marks = await one.marks()
        assert marks == ([] if point in ("committed", "published") else [("F3", 1)])
        # What is left in the outbox is sent again after seconds that nobody need wait for.
        await one.rows("update export.outbox set at = at - interval '1 minute' returning id")
        await one.context.delivery.sweep()
        await one.sweep(LONG)
        await one.context.delivery.sweep()
        assert sorted(await facts(one)) == [("published", False, 1), ("published", True, 1)]
        assert await one.versions() == await one.versions(public=True) == [(1, 3)]
        assert await one.marks() == []
        assert await one.rows("select id from export.outbox") == []
        for event in await said(one.context.jetstream):
            for file in event["data"]["files"]:
                assert await stored(one.context.client, file["object"]) == file["sha256"]
