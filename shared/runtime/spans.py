"""Spans for OpenTelemetry: what was handled, said and sent, under the contexts that the messages carry anyway.

Nothing is made unless an endpoint is set and the extra `traces` is installed; propagation does not hang on it
(`traces.py`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from shared.runtime import traces
from shared.runtime.traces import Where

if TYPE_CHECKING:
    from uuid import UUID

    from shared.runtime.decode import Item
    from shared.runtime.publisher import Message

log = logging.getLogger("yiqi.spans")

PATIENCE = 5
"""Seconds for what is still to be exported when the service stops."""


class Exporter:
    """OpenTelemetry's own SDK with ids of our making; sampling, batching and resource as its variables say."""

    def __init__(self, service: str, processor: Any = None) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import SpanLimits, TracerProvider
        from opentelemetry.sdk.trace.id_generator import IdGenerator

        if processor is None:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.trace.export import BatchSpanProcessor

            processor = BatchSpanProcessor(OTLPSpanExporter())

        class Ids(IdGenerator):
            """The ids of the span that is being begun: nothing is awaited in between."""

            trace = span = 1

            def generate_trace_id(self) -> int:
                return self.trace

            def generate_span_id(self) -> int:
                return self.span

        self._ids = Ids()
        named = Resource.create({"service.name": f"yiqi-{service}", "service.namespace": "yiqi"})
        # A batch is linked to each of its messages.
        limits = SpanLimits(max_links=1000)
        self._provider = TracerProvider(
            resource=named, id_generator=self._ids, span_limits=limits, shutdown_on_exit=False
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("yiqi")

    def span(
        self,
        name: str,
        kind: str,
        where: Where,
        began: int,
        ended: int,
        *,
        parent: str | None = None,
        links: Iterable[Where] = (),
        error: bool = False,
        **attributes: str | int,
    ) -> None:
        from opentelemetry import trace

        assert where.span
        self._ids.trace, self._ids.span = int(where.trace, 16), int(where.span, 16)
        # Without a parent the trace begins here, under its own id.
        context = trace.set_span_in_context(_remote(where._replace(span=parent))) if parent else None
        span = self._tracer.start_span(
            name,
            context=context if context is not None else trace.set_span_in_context(trace.INVALID_SPAN),
            kind=trace.SpanKind[kind],
            attributes={key.replace("__", "."): value for key, value in attributes.items()},
            links=[trace.Link(_remote(one).get_span_context()) for one in links if one.span],
            start_time=began,
        )
        if error:
            span.set_status(trace.StatusCode.ERROR)
        span.end(end_time=ended)

    def finish(self) -> None:
        self._provider.force_flush(PATIENCE * 1000)
        self._provider.shutdown()


def _remote(where: Where) -> Any:
    from opentelemetry import trace

    assert where.span
    flags = trace.TraceFlags(int(where.sampled))
    return trace.NonRecordingSpan(
        trace.SpanContext(int(where.trace, 16), int(where.span, 16), is_remote=True, trace_flags=flags)
    )


exporting: Exporter | None = None


def export(endpoint: str | None, service: str) -> None:
    global exporting  # noqa: PLW0603 - one process is one service
    if endpoint is None:
        return
    try:
        exporting = Exporter(service)
    except ImportError:
        log.warning("traces are not exported: the extra `traces` is not installed")


def finish() -> None:
    if exporting:
        exporting.finish()


def handled(items: Sequence[Item], said: Sequence[Message]) -> None:
    """One transaction: what each message had done with it, what was said because of it, and the batch around them."""
    batch, now = traces.here(), time.time_ns()
    if exporting is None:
        return
    parents: dict[str, str | None] = {}
    around: list[Where] = []
    began = batch.began if batch else now
    if batch and items:
        around = [batch.where]
        if len(batch.items) > 1:
            came = [traces.of(item) for item in items]
            exporting.span(
                f"batch {batch.consumer}",
                "CONSUMER",
                batch.where,
                began,
                now,
                links=came,
                messaging__batch__message_count=len(items),
            )
        for item in items:
            came_with, mine = traces.of(item), traces.handling(batch.consumer, item)
            parents.setdefault(mine.trace, mine.span)
            exporting.span(
                f"process {item.type.name}",
                "CONSUMER",
                mine._replace(sampled=came_with.sampled),
                began,
                now,
                parent=came_with.span,
                links=around if len(batch.items) > 1 else (),
                messaging__system="nats",
                messaging__consumer__group__name=batch.consumer,
                messaging__message__id=item.event.id,
                cloudevents__event_type=item.event.type,
            )
    for message in said:
        where = traces.parse(traces.header(message.body).get("traceparent"))
        if where is None:
            continue
        parent = parents.get(where.trace)
        name = ".".join(
            message.subject.split(".")[3:5] if ".evt." in message.subject else message.subject.split(".")[4:6]
        )
        exporting.span(
            f"say {name}",
            "PRODUCER",
            where,
            began,
            now,
            parent=parent,
            links=() if parent else around,
            messaging__system="nats",
            messaging__message__id=str(message.id),
        )


def sent(trace: str, mail: UUID, attempt: int, letter: str, began: int, outcome: str) -> None:
    """One attempt to hand a mail to the relay."""
    if exporting:
        exporting.span(
            "send mail",
            "CLIENT",
            Where(trace, traces.attempt(mail, attempt)),
            began,
            time.time_ns(),
            error=outcome in ("Failed", "Unknown"),
            yiqi__letter=letter,
            yiqi__outcome=outcome,
        )
