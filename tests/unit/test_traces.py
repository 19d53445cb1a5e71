"""Trace contexts: what is taken over from outside, what follows from ids, and what is exported of it."""

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from shared.contracts import registry
from shared.contracts.mail import MailSent
from shared.contracts.submission import EventAccepted
from shared.runtime import spans, traces
from shared.runtime.decode import Item, Raw, decode
from shared.runtime.delivery import Tx
from shared.runtime.logs import JsonFormatter
from shared.runtime.traces import Where

GIVEN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NOW = datetime(2025, 3, 3, tzinfo=UTC)
CASE = UUID("6f1ad64e-6a3b-5d0f-9d0c-1e5b2c7a4f10")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (GIVEN, Where("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")),
        (GIVEN[:-1] + "0", Where("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", sampled=False)),
        ("01" + GIVEN[2:] + "-more", Where("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")),
        ("ff" + GIVEN[2:], None),
        (GIVEN.upper(), None),
        (GIVEN + "1", None),
        (f"00-{'0' * 32}-b7ad6b7169203331-01", None),
        (f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01", None),
        ("", None),
        (None, None),
        ("13800138000", None),
    ],
)
def test_a_context_is_read_as_the_standard_says(text: str | None, found: Where | None) -> None:
    assert traces.parse(text) == found


def filed(traceparent: str | None = None, header: str | None = None, id_: str = "e-1") -> Item:
    body: dict[str, Any] = {
        "specversion": "1.0",
        "id": id_,
        "source": "urn:cn:gov:gz:440106:test",
        "type": registry.DECISION_MADE.ce_type,
        "time": "2025-03-03T09:00:00+08:00",
        "data": {"case": str(CASE), "outcome": "accept", "reason": "符合"},
    }
    if traceparent:
        body["traceparent"] = traceparent
    headers = {"traceparent": header} if header else None
    raw = Raw("sme.in.v1.440106.decision.made", json.dumps(body).encode(), headers, "SME_IN", 1, NOW)
    item = decode(raw, {registry.DECISION_MADE.name: registry.DECISION_MADE})
    assert isinstance(item, Item)
    return item


def test_the_context_of_the_event_goes_before_that_of_the_bus() -> None:
    other = f"00-{'a' * 32}-{'b' * 16}-01"
    assert traces.of(filed(GIVEN, other)) == traces.parse(GIVEN)
    assert traces.of(filed(None, other)) == traces.parse(other)
    assert traces.of(filed("nonsense", other)) == traces.parse(other)


def test_without_one_a_message_begins_the_same_trace_each_time() -> None:
    one, again, next_ = filed(), filed(), filed(id_="e-2")
    assert traces.of(one) == traces.of(again) == Where(one.key.hex, None)
    assert traces.of(one) != traces.of(next_)


def said(data: Any, *cause: object, trace: str | None = None) -> Where:
    type_ = registry.MAIL_SENT if isinstance(data, MailSent) else registry.EVENT_ACCEPTED
    id_, body = type_.wire(data, *cause, at=NOW, trace=trace)
    event = type_.envelope.model_validate_json(body, strict=True)
    found = traces.parse(event.traceparent)
    assert found == traces.parse(traces.header(body)["traceparent"])
    assert found is not None
    assert found.span == UUID(id_).hex[16:]
    return found


def test_all_that_is_said_of_a_case_is_one_trace_with_its_id() -> None:
    mail = MailSent(mail=uuid4(), letter="accepted", to="440106", case=CASE)
    assert said(mail, 1).trace == said(mail, 2).trace == CASE.hex
    assert said(mail, 1).span != said(mail, 2).span
    alone = MailSent(mail=uuid4(), letter="daily", to="operators")
    assert said(alone, 1).trace != said(alone, 2).trace


def test_an_answer_stays_in_the_trace_of_its_publisher() -> None:
    item = filed(GIVEN)
    tx = Tx(None, NOW)  # type: ignore[arg-type]
    tx.answer(item, registry.EVENT_ACCEPTED, EventAccepted(accepted="e-1", type=item.event.type, case=CASE))
    (message,) = tx.said
    assert traces.parse(traces.header(message.body)["traceparent"]) == Where(
        "0af7651916cd43dd8448eb211c80319c", message.id.hex[16:]
    )


def test_what_a_publisher_writes_into_its_event_is_no_context_of_ours() -> None:
    """Only the attribute counts, which stands before all that others have written."""
    data = EventAccepted(accepted='"traceparent":"00-', type="t")
    _, body = registry.EVENT_ACCEPTED.wire(data, 1, at=NOW, trace="f" * 32)
    assert traces.header(body)["traceparent"].startswith("00-" + "f" * 32)


def line(**extra: Any) -> dict[str, Any]:
    record = logging.LogRecord("yiqi.test", logging.INFO, "", 0, "m", (), None)
    found: dict[str, Any] = json.loads(JsonFormatter("review").format(record))
    return found


def test_a_log_line_says_which_message_it_is_about() -> None:
    item = filed(GIVEN)
    assert line().keys() & {"trace_id", "span_id"} == set()
    with traces.at("review-in", [item]):
        mine = traces.handling("review-in", item)
        assert (line()["trace_id"], line()["span_id"]) == (mine.trace, mine.span)
        assert mine.trace == "0af7651916cd43dd8448eb211c80319c"
        with traces.at("review-in", [item, filed(id_="e-2")]):
            assert line()["trace_id"] not in (mine.trace, "")
        assert line()["trace_id"] == mine.trace
    assert "trace_id" not in line()


def test_the_ids_of_a_line_are_not_made_unreadable() -> None:
    """Eleven digits in a row look like a telephone number."""
    parent = "00-13800138000a3800138000a138001380-a13800138000b331-01"
    with traces.at("review-in", [filed(parent)]):
        assert line()["trace_id"] == "13800138000a3800138000a138001380"


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    memory = InMemorySpanExporter()
    monkeypatch.setattr(spans, "exporting", spans.Exporter("review", SimpleSpanProcessor(memory)))
    yield memory
    assert spans.exporting
    spans.exporting.finish()


def ids(span: ReadableSpan) -> tuple[str, str]:
    context = span.get_span_context()
    assert context
    return f"{context.trace_id:032x}", f"{context.span_id:016x}"


def handle(*items: Item) -> Tx:
    tx = Tx(None, NOW)  # type: ignore[arg-type]
    for item in items:
        tx.answer(item, registry.EVENT_ACCEPTED, EventAccepted(accepted=item.event.id, type=item.event.type))
        tx.say(registry.MAIL_SENT, "440106", MailSent(mail=item.key, letter="a", to="x", case=CASE), item.key)
    with traces.at("review-in", items):
        spans.handled(items, tx.said)
    return tx


def test_the_publisher_sees_its_answer_and_the_case_keeps_its_own_trace(
    exported: InMemorySpanExporter,
) -> None:
    item = filed(GIVEN)
    answer, mail = handle(item).said
    process, say_answer, say_mail = exported.get_finished_spans()
    assert (process.name, say_answer.name, say_mail.name) == (
        "process decision.made",
        "say event.accepted",
        "say mail.sent",
    )
    assert process.parent
    assert f"{process.parent.span_id:016x}" == "b7ad6b7169203331"
    assert say_answer.parent
    assert f"{say_answer.parent.span_id:016x}" == ids(process)[1]
    assert ids(say_answer) == ("0af7651916cd43dd8448eb211c80319c", answer.id.hex[16:])
    assert ids(say_mail) == (CASE.hex, mail.id.hex[16:])
    assert say_mail.parent is None
    assert [f"{link.context.span_id:016x}" for link in say_mail.links] == [ids(process)[1]]


def test_a_batch_is_a_span_that_is_linked_to_each_of_its_messages(exported: InMemorySpanExporter) -> None:
    items = [filed(f"00-{n:032x}-{n:016x}-01", id_=f"e-{n}") for n in range(1, 201)]
    handle(*items)
    batch, *rest = exported.get_finished_spans()
    assert batch.name == "batch review-in"
    assert [link.context.trace_id for link in batch.links] == [*range(1, 201)]
    processes = [span for span in rest if span.name == "process decision.made"]
    assert [ids(span)[0] for span in processes] == [f"{n:032x}" for n in range(1, 201)]
    assert {ids(batch)} == {
        (f"{x.links[0].context.trace_id:032x}", f"{x.links[0].context.span_id:016x}") for x in processes
    }


def test_what_its_publisher_does_not_sample_is_not_exported(exported: InMemorySpanExporter) -> None:
    handle(filed(GIVEN[:-1] + "0"))
    assert "process decision.made" not in [span.name for span in exported.get_finished_spans()]


def test_nothing_is_exported_without_an_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spans, "exporting", None)
    spans.export(None, "review")
    assert spans.exporting is None
    handle(filed(GIVEN))
