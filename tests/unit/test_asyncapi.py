"""The AsyncAPI document: whole in itself, true to the registry, the streams and the accounts; and its page, to nothing
outside of it.

Whether `@asyncapi/parser` takes it is in `tests/publishers`. FastStream's own document is the second opinion: it knows what
the services really subscribe to.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from importlib import import_module
from typing import Any

import pytest
from faststream.specification import AsyncAPI
from jsonschema import Draft7Validator

from services.cli.contracts.page import page
from services.cli.contracts.published import bus
from shared.contracts import frozen, registry, schemas
from shared.contracts.asyncapi import _components, _event, document
from shared.notices.load import load_all
from shared.runtime import SERVICES
from shared.runtime.accounts import allowed
from shared.runtime.settings import Settings
from shared.runtime.streams import CONSUMERS, STREAM_OF
from tests.goldens import golden

DOCUMENT: dict[str, Any] = json.loads((frozen.FOLDER / "asyncapi.json").read_bytes())
HTML = (frozen.FOLDER / "asyncapi.html").read_text()
TOLD = [e for e in registry.EVENTS if e.cls != "audit"]


def refs(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, one in value.items():
            if key == "$ref" and isinstance(one, str):
                yield one
            else:
                yield from refs(one)
    elif isinstance(value, list):
        for one in value:
            yield from refs(one)


def resolved(ref: str) -> Any:
    found: Any = DOCUMENT
    for step in ref.removeprefix("#/").split("/"):
        found = found[step]
    return found


def test_every_reference_leads_somewhere() -> None:
    found = set(refs(DOCUMENT))
    assert len(found) > 100
    for ref in found:
        assert resolved(ref), ref


def pattern(address: str) -> str:
    return re.sub(r"\{[a-z0-9]+\}", "*", address)


def test_it_has_every_event_question_and_file_and_nothing_else() -> None:
    listed = {c["address"]: key for key, c in DOCUMENT["channels"].items() if c["address"]}
    assert {pattern(a) for a in listed} == {
        *(e.pattern for e in TOLD),
        *(a.pattern for a in registry.ASKS),
        "sme.file.v1.*.*.*",
    }
    for address, key in listed.items():
        assert set(re.findall(r"\{([a-z0-9]+)\}", address)) == set(DOCUMENT["channels"][key]["parameters"])


def test_an_operation_has_the_direction_of_its_class() -> None:
    for type_ in TOLD:
        verb = "receive" if type_.cls == "in" else "send"
        found = DOCUMENT["operations"][f"{verb}.{type_.cls}.{type_.name}"]
        assert (found["x-says"], found["x-hears"]) == (list(type_.says), list(type_.hears))


def test_every_payload_takes_its_examples_and_refuses_a_typing_error() -> None:
    for type_ in TOLD:
        message = DOCUMENT["components"]["messages"][type_.envelope.__name__]
        room = DOCUMENT["components"]
        payload = Draft7Validator({**message["payload"], "components": room})
        assert [e["name"] for e in message["examples"]] == sorted(frozen.examples(type_.ce_type))
        for example in message["examples"]:
            assert payload.is_valid(example["payload"]), type_.name
            wrong = {**example["payload"], "type": "cn.gov.gz.sme.other.v1"}
            assert not payload.is_valid(wrong)
            if type_.cls == "in":
                data = {**example["payload"]["data"], "typing_error": 1}
                assert not payload.is_valid({**example["payload"], "data": data})


def test_the_facts_of_the_bus_are_those_of_the_streams() -> None:
    durables: dict[str, set[str]] = {}
    for key, channel in DOCUMENT["channels"].items():
        facts = channel.get("x-jetstream")
        if facts is None:
            assert key.startswith("ask.")
            continue
        cls = key.partition(".")[0]
        assert facts["stream"] == STREAM_OF.get(cls, "SME_FILE")
        assert facts["duplicate_window"] == "2:00:00"
        for consumer in facts.get("consumers", ()):
            durables.setdefault(consumer["durable"], set()).add(pattern(channel["address"]))
            assert consumer["ack_policy"] == "explicit"
    assert durables == {c.durable: {e.pattern for e in c.events} for c in CONSUMERS}


def test_the_accounts_let_every_service_say_what_the_document_says_it_sends() -> None:
    for service in SERVICES:
        sent = {
            pattern(resolved(o["channel"]["$ref"])["address"])
            for o in DOCUMENT["operations"].values()
            if service in o.get("x-says", ())
        }
        said = {s for s in allowed(service).publish if re.match(r"sme\.(evt|out)\.", s)}
        assert sent == said, service


@pytest.mark.parametrize("service", SERVICES)
def test_what_faststream_says_of_a_service_is_in_the_document(service: str) -> None:
    """Its own document of the running broker. It knows the first subject of a subscription and not the filters of the
    consumer behind it, and of the payload that it is a batch of raw messages: the rest follows from the durable."""
    app = import_module(f"services.{service}.handlers").service.app(Settings())
    told = AsyncAPI(app.broker, schema_version="3.0.0").to_specification().to_jsonable()
    ours: dict[str, set[str]] = {}
    for channel in DOCUMENT["channels"].values():
        for consumer in channel.get("x-jetstream", {}).get("consumers", ()):
            ours.setdefault(consumer["durable"], set()).add(pattern(channel["address"]))
    assert set(told["channels"]) == {durable for durable in ours if durable.startswith(f"{service}-")}
    for durable, channel in told["channels"].items():
        assert channel["address"] in ours[durable]
    assert {o["action"] for o in told["operations"].values()} == {"receive"}


def test_parts_of_two_major_versions_stand_side_by_side() -> None:
    room: dict[str, Any] = {"components": {"schemas": {}}}
    inner = {"Unit": {"type": "string"}, "Held": {"items": {"$ref": "#/$defs/Unit"}}}
    wider = {"Unit": {"type": "integer"}, "Held": {"items": {"$ref": "#/$defs/Unit"}}}
    for name, parts in (("FiledV1", inner), ("FiledV2", wider)):
        whole = {"properties": {"held": {"$ref": "#/$defs/Held"}}, "$defs": parts}
        _components(room, name, whole)
    assert room["components"]["schemas"] == {
        "Unit": {"type": "string"},
        "Held": {"items": {"$ref": "#/$defs/Unit"}},
        "FiledV1": {"properties": {"held": {"$ref": "#/$defs/Held"}}},
        "FiledV2.Unit": {"type": "integer"},
        "FiledV2.Held": {"items": {"$ref": "#/$defs/FiledV2.Unit"}},
        "FiledV2": {"properties": {"held": {"$ref": "#/$defs/FiledV2.Held"}}},
    }


def test_two_major_versions_are_two_messages_of_one_channel() -> None:
    now = registry.SUBMISSION_FILED
    events = [now, replace(now, major=2)]
    made: dict[str, Any] = {"channels": {}, "operations": {}, "components": {"messages": {}, "schemas": {}}}
    for type_ in events:
        _event(made, type_, bus(), schemas.of_event(type_), {})
    assert list(made["channels"]["in.submission.filed"]["messages"]) == [
        "SubmissionFiledV1",
        "SubmissionFiledV2",
    ]
    assert len(made["operations"]["receive.in.submission.filed"]["messages"]) == 2
    whole = {**DOCUMENT, **made, "components": {**DOCUMENT["components"], **made["components"]}}
    whole["components"]["schemas"]["Json"] = schemas.JSON
    shown = page(json.loads(json.dumps(whole)), [], {})
    assert all(f"<code>{type_.ce_type}</code>" in shown for type_ in events)
    assert len(outside(shown).anchors) > 5


# --- the page ------------------------------------------------------------------------------------------


class Outside(HTMLParser):
    """What a page would fetch or lead to outside of itself, and the anchors that it has."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.anchors: set[str] = set()
        self.links: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src", "action", "data", "srcset") and value:
                if value.startswith("#"):
                    self.links.add(value[1:])
                else:
                    self.found.append(value)
            if name == "id" and value:
                assert value not in self.anchors
                self.anchors.add(value)
        if tag in ("script", "link", "iframe", "object", "img", "form"):
            self.found.append(tag)


def outside(html: str) -> Outside:
    parser = Outside()
    parser.feed(html)
    return parser


def test_the_page_needs_nothing_from_outside() -> None:
    looked = outside(HTML)
    assert looked.found == []
    assert looked.links - looked.anchors == set()
    assert not re.search(r"url\(|@import", HTML)


def test_what_a_page_would_fetch_is_seen() -> None:
    """The negative control."""
    assert outside('<script src="https://unpkg.com/x.js"></script><a href="x.html">').found == [
        "https://unpkg.com/x.js",
        "script",
        "x.html",
    ]


def test_the_page_shows_every_event_with_its_fields_and_example() -> None:
    for type_ in TOLD:
        at = HTML.index(f'<article id="{type_.cls}-{type_.name.replace(".", "-")}">')
        section = HTML[at : HTML.index("</article>", at)]
        assert f"<code>{type_.ce_type}</code>" in section
        for field in type_.payload.model_fields:
            assert f"<td><code>{field}</code></td>" in section, field
        assert json.loads(golden(type_.ce_type).read_bytes())["id"] in section


def test_the_page_shows_every_column_of_every_form() -> None:
    for id_, compiled in load_all().items():
        for judge in compiled.forms.values():
            at = HTML.index(f'<details id="form-{id_}-{judge.form.id}">')
            section = HTML[at : HTML.index("</details>", at)]
            assert [key for key in judge.model.model_fields if f"<code>{key}</code>" not in section] == []


def test_what_a_text_says_is_no_mark_up() -> None:
    made = document(bus(), {e.ce_type: schemas.of_event(e) for e in registry.EVENTS}, {})
    made["channels"]["in.submission.filed"]["description"] = "<script>alert(1)</script>"
    assert "<script>" not in page(made, [], {})
