"""What is published: a schema for every event and every form, the list of them, the AsyncAPI document and its page,
the OpenAPI document of the HTTP door.

Commands are not here.
"""

import json
from collections.abc import Collection, Iterator, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from services.cli import common
from services.cli.contracts import conformance
from services.cli.contracts.page import page
from shared.contracts import asyncapi, frozen, schemas
from shared.contracts.asyncapi import Bus
from shared.contracts.frozen import Change, Contract
from shared.contracts.registry import EVENTS
from shared.contracts.types import Finding
from shared.notices.directory import Directory
from shared.notices.forms import FormJudge
from shared.notices.load import load_all
from shared.runtime import streams

KINDS = {
    "new": "新的",
    "reworded": "文字有变动",
    "compatible": "兼容的变动",
    "breaking": "不兼容的变动",
}


class Forms:
    """The forms of our own notices; `major` names those of which a new major version is wanted."""

    def __init__(self, folder: Path, major: Collection[str] = ()) -> None:
        self.contracts: list[Contract] = []
        self.listed: list[dict[str, Any]] = []
        for id_, compiled in load_all().items():
            for judge in compiled.forms.values():
                key = f"forms/{id_}/{judge.form.id}"
                last = max((m for m, _ in frozen.versions(key, folder)), default=1) + (key in major)
                make = partial(_schema, judge, id_, last)
                affected = f"发布者：报送通知 {id_} 表 {judge.form.id} 的单位"
                self.contracts.append(Contract(key, "deserializer", last, make, affected))
                title = f"{judge.form.annex} {compiled.notice.form_title(judge.form)}"
                self.listed.append({"key": key, "notice": id_, "form": judge.form.id, "title": title})


def _schema(judge: FormJudge, notice: str, major: int, minor: int) -> schemas.Schema:
    return schemas.complete(judge.schema(), f"{schemas.URN}{notice}/{judge.form.id}:{major}.{minor}")


def contracts(forms: Forms) -> list[Contract]:
    return [*map(frozen.of_type, EVENTS), *forms.contracts]


def changes(forms: Forms, folder: Path) -> list[Change]:
    try:
        from jsoncompat import check_compat
    except ImportError:
        common.fail("核对兼容性要用开发环境（make setup）", common.UNUSABLE)
    found = (frozen.change(contract, check_compat, folder) for contract in contracts(forms))
    return [change for change in found if change is not None]


def told(change: Change) -> Iterator[str]:
    """What has changed, whom it would break, and what to do."""
    key = change.contract.key
    yield f"{key}：{KINDS[change.kind]}"
    yield from (f"  {line}" for line in change.lines)
    if change.kind == "breaking":
        yield f"  会受影响的{change.contract.affected}"
        if key.startswith("forms/"):
            yield f"  若确实要改：yiqi contracts build --major {key}"
        else:
            yield "  若确实要改：在登记表中另立新的大版本（major + 1），两者并行一段时间"
    elif change.kind == "reworded":
        yield "  请运行 yiqi contracts build"
    else:
        yield f"  请运行 yiqi contracts build，写出 {change.version}"


def made(forms: Forms, found: Sequence[Change], folder: Path) -> dict[str, str]:
    """What follows from the schemas and examples in the folder, by file; from what has changed, as it is now."""
    examples = {
        e.ce_type: {
            name: json.loads((folder / e.ce_type / "examples" / f"{name}.json").read_bytes())
            for name in frozen.examples(e.ce_type, folder)
        }
        for e in EVENTS
    }
    now = {change.contract.key: change.schema for change in found}

    def newest(key: str) -> schemas.Schema:
        return now.get(key) or frozen.read(key, frozen.versions(key, folder)[-1], folder)

    from services.intake.door import openapi  # a web framework, which no other command needs

    document = asyncapi.document(bus(), {e.ce_type: newest(e.ce_type) for e in EVENTS}, examples)
    return {
        frozen.INDEX: frozen.written(frozen.index(EVENTS, forms.listed, folder)),
        "asyncapi.json": frozen.written(document),
        "asyncapi.html": page(document, forms.listed, {c.key: newest(c.key) for c in forms.contracts}),
        "openapi.json": frozen.written(openapi.document()),
    }


def bus() -> Bus:
    """From the streams as they are provisioned, and our own directory: a mounted one has other codes."""
    of = {cls: next(s for s in streams.STREAMS if s.name == name) for cls, name in streams.STREAM_OF.items()}
    of["file"] = next(s for s in streams.STREAMS if s.name == streams.FILE)
    consumers: dict[str, list[dict[str, Any]]] = {}
    for consumer in streams.CONSUMERS:
        config = consumer.config()
        for event in consumer.events:
            consumers.setdefault(event.name, []).append(
                {
                    "durable": consumer.durable,
                    "ack_policy": config.ack_policy and config.ack_policy.value,
                    "ack_wait": f"{config.ack_wait:.0f} s",
                    "max_deliver": config.max_deliver,
                }
            )
    agencies = Directory.load().agencies
    return Bus(
        {
            cls: {
                "stream": stream.name,
                "retention": stream.retention and stream.retention.value,
                "max_age": f"{streams.DAYS} d",
                "max_msg_size": stream.max_msg_size,
                "duplicate_window": str(timedelta(seconds=stream.duplicate_window or 0)),
            }
            for cls, stream in of.items()
        },
        consumers,
        sorted({a.district for a in agencies if a.district} | {"440100"}),
        [a.code for a in agencies][:3],
    )


def goldens(folder: Path) -> Iterator[tuple[str, list[Finding]]]:
    """The golden examples that the services would refuse today."""
    for file in sorted(folder.glob("*/examples/*.json")):
        for verdict in conformance.judge([(str(file.relative_to(folder)), file.read_bytes())]):
            if not verdict.good:
                yield verdict.where, verdict.faults
