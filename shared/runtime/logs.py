"""JSON logs on standard output: ids, types and counts, never the content of a message.

What may stand in a line is listed here; the redaction is the last line of defence. What is counted is in `metrics.py`.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

from shared.contracts.personal import redact
from shared.runtime import metrics, traces

EXTRA = frozenset(
    {
        "answer",
        "case",
        "consumer",
        "consumers",
        "detail",
        "error_type",
        "event",
        "form",
        "messages",
        "officers",
        "seq",
        "sha256",
        "step",
    }
)
"""What a line may say besides its message: codes, counts and ids of our own making. Any other is left out and counted;
that what is written is a constant, and each extra one of these, is a test over the source."""

_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


class JsonFormatter(logging.Formatter):
    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "service": self._service,
            "message": _message(record),
        }
        extra = vars(record).keys() - _PLAIN
        line |= {name: getattr(record, name) for name in sorted(extra & EXTRA)}
        if unlisted := len(extra - EXTRA):
            line["left_out"] = unlisted
            metrics.LEFT_OUT.inc(unlisted)
        if record.exc_info and record.exc_info[0]:
            # The type and the place, not the text: driver errors quote the row that failed.
            frame = record.exc_info[2]
            while frame and frame.tb_next:
                frame = frame.tb_next
            where = f"{frame.tb_frame.f_code.co_filename}:{frame.tb_lineno}" if frame else ""
            line["error"] = f"{record.exc_info[0].__name__} at {where}"
        text = redact(json.dumps(line, ensure_ascii=False, default=str))
        here = traces.where()
        # Behind the redaction: sixteen hexadecimal digits may look like a telephone number.
        return (
            text if here is None else f'{text[:-1]}, "trace_id": "{here.trace}", "span_id": "{here.span}"}}'
        )


def _message(record: logging.LogRecord) -> str:
    """Ours as it is written. Of a library's only what its source says, without what it would fill in: that may be
    anything (asyncio tells the whole of a lost exception from the second line on)."""
    ours = record.name == "yiqi" or record.name.startswith("yiqi.")
    return record.getMessage() if ours else str(record.msg).partition("\n")[0]


def configure(service: str, level: str) -> None:
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter(service))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("alembic").setLevel("WARNING")
    logging.getLogger("uvicorn").setLevel("WARNING")
