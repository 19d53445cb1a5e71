"""Who judges an event: what a publisher has at hand (ajv, jsonschema), and our services.

Which events they judge is in `events.py`.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from jsonschema import Draft202012Validator, FormatChecker

from shared.contracts.registry import EventType
from shared.contracts.schemas import of_event
from shared.runtime.decode import Dead, Item, Raw, decode
from tests.publishers import node

AT = datetime(2025, 3, 3, tzinfo=UTC)
TOKEN = "440106"


class Verdict(NamedTuple):
    good: bool
    why: str = ""


def services(type_: EventType, body: bytes) -> Verdict:
    """Of the very function through which every event comes."""
    found = decode(Raw(type_.subject(TOKEN), body, None, "SME_IN", 1, AT), {type_.name: type_})
    if not isinstance(found, Dead):
        return Verdict(good=True)
    errors = found.problem.errors if found.problem else ()
    return Verdict(False, " ".join([found.code, *(f"{e.pointer} {e.code}" for e in errors[:1])]))


def binary(type_: EventType, body: bytes) -> Verdict | None:
    """The same in binary mode; None of what has none: no document, or attributes that are no plain texts."""
    try:
        document = json.loads(body.decode(), parse_constant=_no_json)
        data = json.dumps(document.pop("data")).encode()
        headers = {f"ce-{name}": quote(value) for name, value in document.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    if "ce-specversion" not in headers:
        return None  # it is what binary mode is known by
    found = decode(Raw(type_.subject(TOKEN), data, headers, "SME_IN", 1, AT), {type_.name: type_})
    return Verdict(isinstance(found, Item), found.why if isinstance(found, Dead) else "")


@cache
def _validators(type_: EventType) -> tuple[Draft202012Validator, ...]:
    schema = of_event(type_)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema), Draft202012Validator(schema, format_checker=FormatChecker())


def _no_json(said: str) -> Any:
    raise ValueError(said)


def jsonschema(type_: EventType, body: bytes) -> tuple[Verdict, Verdict]:
    """Without and with its check of formats. Python's parser takes NaN for JSON unless it is told otherwise."""
    try:
        document = json.loads(body.decode(), parse_constant=_no_json)
    except (ValueError, RecursionError) as error:
        refused = Verdict(False, type(error).__name__)
        return refused, refused
    found = []
    for validator in _validators(type_):
        first = next(validator.iter_errors(document), None)
        found.append(Verdict(first is None, "" if first is None else f"{first.json_path} {first.validator}"))
    return found[0], found[1]


def ajv(
    documents: Sequence[tuple[EventType, bytes]], folder: Path, schemas: Mapping[str, Any] | None = None
) -> list[tuple[Verdict, Verdict]]:
    """The same, by one process of node for all of them."""
    file = folder / "schemas.json"
    file.write_text(
        json.dumps(schemas or {type_.ce_type: of_event(type_) for type_ in {t for t, _ in documents}})
    )
    lines = (f"{type_.ce_type} {base64.b64encode(body).decode()}" for type_, body in documents)
    done = node.node("agree.mjs", file, input="\n".join(lines) + "\n", timeout=120)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert len(said) == len(documents)
    return [(Verdict(plain, why), Verdict(formats, why)) for plain, formats, why in said]
