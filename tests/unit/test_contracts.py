"""Every event has one golden example, which never changes; envelope, ids and problem documents say what they promise."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest
from pydantic import BaseModel, ValidationError

from shared.contracts import registry
from shared.contracts.case import DecisionMade
from shared.contracts.envelope import binary_to_structured, derived_id, is_binary
from shared.contracts.problem import LONGEST, MOST, faults, locate, pointer, problem
from shared.contracts.registry import EVENTS, EventType
from shared.contracts.submission import SubmissionFiled
from shared.contracts.types import Inbound, Outbound
from tests.goldens import golden, goldens

AT = datetime(2025, 3, 5, 1, 30, tzinfo=UTC)


def example(type_: EventType) -> bytes:
    return golden(type_.ce_type).read_bytes()


def by_name(type_: EventType) -> str:
    return type_.name


every_event = pytest.mark.parametrize("type_", EVENTS, ids=by_name)


# --- golden examples ---------------------------------------------------------------------------------


def test_every_event_has_an_example_and_every_example_an_event() -> None:
    assert {p.parts[-3] for p in goldens()} == {e.ce_type for e in EVENTS}


@every_event
def test_an_example_is_what_is_written_after_it_was_read(type_: EventType) -> None:
    event = type_.envelope.model_validate_json(example(type_))
    assert json.loads(event.wire()) == json.loads(example(type_))
    assert type_.envelope.model_validate_json(event.wire()) == event


@every_event
def test_an_example_uses_every_field_of_its_payload(type_: EventType) -> None:
    """An example that leaves a field out would not notice its removal."""
    assert set(json.loads(example(type_))["data"]) == set(type_.payload.model_fields)


@every_event
def test_subject_and_type_lead_to_each_other(type_: EventType) -> None:
    assert registry.of_subject(type_.subject("440106")) == (type_, "440106")
    assert json.loads(example(type_))["type"] == type_.ce_type


@pytest.mark.parametrize(
    "subject",
    [
        "",
        "sme",
        "sme.in.v1.440106.submission",
        "sme.in.v1.440106.submission.filed.more",
        "sme.in.v2.440106.submission.filed",
        "sme.evt.v1.440106.submission.accepted",
        "sme.out.v1.440106.submission.filed",
        "other.in.v1.440106.submission.filed",
    ],
)
def test_other_subjects_carry_no_event(subject: str) -> None:
    assert registry.of_subject(subject) is None


@pytest.mark.parametrize("type_", [e for e in EVENTS if e.cls == "in"], ids=by_name)
def test_an_inbound_event_is_closed(type_: EventType) -> None:
    document = json.loads(example(type_))
    document["data"]["typing_error"] = 1
    with pytest.raises(ValidationError) as refused:
        type_.envelope.model_validate_json(json.dumps(document))
    assert [(e["type"], e["loc"]) for e in refused.value.errors()] == [
        ("extra_forbidden", ("data", "typing_error"))
    ]


def with_extras(value: Any, path: str = "") -> Any:
    """A document of a later version: one more field in every object but in a row, whose keys are columns."""
    if isinstance(value, list):
        return [with_extras(v, path) for v in value]
    if not isinstance(value, dict) or path == "/data/values":
        return value
    return {**{k: with_extras(v, f"{path}/{k}") for k, v in value.items()}, "added_later": 1}


@pytest.mark.parametrize("type_", [e for e in EVENTS if e.cls != "in"], ids=by_name)
def test_an_outbound_event_may_grow_in_every_object(type_: EventType) -> None:
    today = type_.envelope.model_validate_json(example(type_))
    later = json.dumps(with_extras(json.loads(example(type_))))
    assert type_.envelope.model_validate_json(later) == today


def objects(schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        name: s for name, s in {"": schema, **schema.get("$defs", {})}.items() if s.get("type") == "object"
    }


@every_event
def test_the_schema_says_whether_it_is_closed(type_: EventType) -> None:
    found = objects(type_.payload.model_json_schema())
    closed = {name for name, s in found.items() if s.get("additionalProperties") is False}
    assert closed == (set(found) if type_.cls == "in" else set())


def test_every_payload_is_inbound_or_outbound_by_its_class() -> None:
    base: dict[str, type[BaseModel]] = {"in": Inbound, "evt": Outbound, "out": Outbound, "audit": Outbound}
    assert [e.name for e in EVENTS if not issubclass(e.payload, base[e.cls])] == []


# --- the envelope ------------------------------------------------------------------------------------


def binary(type_: EventType, spell: Any = str) -> tuple[dict[str, str], bytes]:
    document = json.loads(example(type_))
    data = document.pop("data")
    headers = {spell(f"ce-{name}"): quote(str(value)) for name, value in document.items()}
    return headers, json.dumps(data, ensure_ascii=False).encode()


@pytest.mark.parametrize("spell", [str, str.upper, str.title], ids=["lower", "upper", "title"])
@every_event
def test_binary_and_structured_mode_are_the_same_event(type_: EventType, spell: Any) -> None:
    headers, body = binary(type_, spell)
    assert is_binary(headers)
    assert not is_binary({"Content-Type": "application/cloudevents+json"})
    assert not is_binary(None)
    structured = binary_to_structured({**headers, "Nats-Msg-Id": "x"}, body)
    event = type_.envelope.model_validate_json(structured)
    assert event == type_.envelope.model_validate_json(example(type_))


def test_chinese_in_a_header_is_percent_encoded() -> None:
    headers, body = binary(registry.DECISION_MADE)
    headers["ce-correlationid"] = quote("第一批 100%")
    assert "%E7%AC%AC" in headers["ce-correlationid"]
    event = registry.DECISION_MADE.envelope.model_validate_json(binary_to_structured(headers, body))
    assert event.correlationid == "第一批 100%"


VIOLATIONS: dict[str, tuple[dict[str, Any], str, str]] = {
    "no id": ({"id": None}, "schema.string_type", "#/id"),
    "empty id": ({"id": ""}, "schema.string_pattern_mismatch", "#/id"),
    "blank in the id": ({"id": "a b"}, "schema.string_pattern_mismatch", "#/id"),
    "Chinese id": ({"id": "甲"}, "schema.string_pattern_mismatch", "#/id"),
    "id of 129": ({"id": "x" * 129}, "schema.string_pattern_mismatch", "#/id"),
    "id with a line end": ({"id": "a\n"}, "schema.string_pattern_mismatch", "#/id"),
    "another version": ({"specversion": "0.3"}, "schema.literal_error", "#/specversion"),
    "foreign source": ({"source": "https://example.com"}, "schema.string_pattern_mismatch", "#/source"),
    "source without system": (
        {"source": "urn:cn:gov:gz:440106"},
        "schema.string_pattern_mismatch",
        "#/source",
    ),
    "no zone": ({"time": "2025-03-05T09:30:00"}, "schema.timezone_aware", "#/time"),
    "no time": ({"time": "yesterday"}, "schema.datetime_parsing", "#/time"),
    "XML": ({"datacontenttype": "text/xml"}, "schema.literal_error", "#/datacontenttype"),
    "no data": ({"data": None}, "schema.model_type", "#/data"),
    "data is a text": ({"data": "{}"}, "schema.model_type", "#/data"),
}


@pytest.mark.parametrize("violation", VIOLATIONS)
def test_a_violation_of_the_profile_has_a_code_and_a_place(violation: str) -> None:
    change, code, where = VIOLATIONS[violation]
    document = {**json.loads(example(registry.DECISION_MADE)), **change}
    with pytest.raises(ValidationError) as refused:
        registry.DECISION_MADE.envelope.model_validate_json(json.dumps(document))
    assert [(f.code, f.pointer) for f in faults(refused.value, document)] == [(code, where)]


@pytest.mark.parametrize("field", ["specversion", "id", "source", "type", "time", "data"])
def test_a_missing_attribute_is_named_unless_it_has_one_meaning(field: str) -> None:
    document = json.loads(example(registry.DECISION_MADE))
    del document[field]
    if field == "specversion":
        registry.DECISION_MADE.envelope.model_validate_json(json.dumps(document))
        return
    with pytest.raises(ValidationError) as refused:
        registry.DECISION_MADE.envelope.model_validate_json(json.dumps(document))
    assert [(f.code, f.pointer) for f in faults(refused.value, document)] == [
        ("schema.missing", f"#/{field}")
    ]


def test_an_id_of_one_and_of_128_characters_will_do() -> None:
    document = json.loads(example(registry.DECISION_MADE))
    for id_ in ("x", "x" * 128, "!~"):
        event = registry.DECISION_MADE.envelope.model_validate_json(json.dumps({**document, "id": id_}))
        assert event.id == id_


def test_the_publisher_is_the_fifth_part_of_the_source() -> None:
    event = registry.DECISION_MADE.envelope.model_validate_json(example(registry.DECISION_MADE))
    assert event.source == "urn:cn:gov:gz:440100:oa"
    assert event.publisher == "440100"


# --- ids ---------------------------------------------------------------------------------------------


def test_ids_follow_from_their_cause_for_ever() -> None:
    """The literal is the promise: another value would make every redelivery of the past look new."""
    assert derived_id("case", 1) == "76a41f25-59ef-5734-a4e1-45b290474b8c"
    assert derived_id("case", 1) == derived_id("case", "1")
    assert derived_id("case", 1) != derived_id("case", 2)


def test_an_event_of_the_same_cause_is_the_same_event() -> None:
    payload = registry.CASE_ADVANCED.payload.model_validate(
        json.loads(example(registry.CASE_ADVANCED))["data"]
    )
    one = registry.CASE_ADVANCED.event(payload, "cause", 1, at=AT)
    again = registry.CASE_ADVANCED.event(payload, "cause", 1, at=AT + timedelta(hours=1))
    other = registry.CASE_ADVANCED.event(payload, "cause", 2, at=AT)
    elsewhere = registry.CASE_RETURNED.event(payload, "cause", 1, at=AT)
    assert one.id == again.id
    assert len({one.id, other.id, elsewhere.id}) == 3
    assert UUID(one.id).version == 5
    # Made without validation, for speed: it must still be a valid event.
    assert registry.CASE_ADVANCED.envelope.model_validate_json(one.wire()) == one


def test_a_time_is_written_with_its_zone() -> None:
    payload = registry.MAIL_SENT.payload.model_validate(json.loads(example(registry.MAIL_SENT))["data"])
    beijing = AT.astimezone(timezone(timedelta(hours=8)))
    written = json.loads(registry.MAIL_SENT.event(payload, at=beijing).wire())["time"]
    assert written == "2025-03-05T09:30:00+08:00"


# --- problem documents -------------------------------------------------------------------------------


def test_pointers_escape_as_rfc_6901_says() -> None:
    assert pointer(["data", "a/b", "m~n", 0]) == "#/data/a~1b/m~0n/0"
    assert pointer([]) == "#"
    assert pointer(["data", "a\0b\n"]) == "#/data/a%00b%0A"
    assert pointer(["表"]) == "#/表"


def test_a_pointer_stops_before_a_name_that_is_too_long_to_repeat() -> None:
    assert pointer(["data", "x" * (LONGEST + 1), 0]) == "#/data"
    assert len(pointer(["x" * (LONGEST - 2)])) == LONGEST


def test_steps_that_pydantic_adds_are_no_steps_of_the_document() -> None:
    document = {"data": {"values": {"contact": [{"name": 1}]}}}
    loc = ("data", "values", "tagged-union[A,B]", "contact", "function-after[x()]", 0, "name")
    assert locate(loc, document) == ["data", "values", "contact", 0, "name"]
    assert locate(("data", "missing"), document) == ["data", "missing"]
    assert locate(("data", 5), document) == ["data", 5]
    assert locate(("data", "values", "contact", 9), document) == ["data", "values", "contact"]


def test_a_fault_never_repeats_what_was_filed() -> None:
    secret = "13800138000"
    document = json.loads(example(registry.SUBMISSION_FILED))
    document["data"] |= {
        "form": secret * 10,
        "item_kind": secret,
        "case": secret,
        "filer": {"code": secret.upper() + " "},
    }
    document["data"]["files"][0] |= {"role": secret, "sha256": secret, "size": secret * 9}
    with pytest.raises(ValidationError) as refused:
        registry.SUBMISSION_FILED.envelope.model_validate_json(json.dumps(document))
    found = faults(refused.value, document)
    assert {f.pointer for f in found} == {
        "#/data/form",
        "#/data/item_kind",
        "#/data/case",
        "#/data/filer/code",
        "#/data/filer/kind",
        "#/data/filer/name",
        "#/data/files/0/role",
        "#/data/files/0/sha256",
        "#/data/files/0/size",
    }
    assert secret not in json.dumps([f.model_dump() for f in found])
    assert {f.severity for f in found} == {"hard"}


def test_a_fault_is_explained_in_chinese() -> None:
    document = json.loads(example(registry.DECISION_MADE))
    document["data"] |= {"outcome": "x" * 33, "reason": "", "officr": 1, "version": "two"}
    with pytest.raises(ValidationError) as refused:
        registry.DECISION_MADE.envelope.model_validate_json(json.dumps(document))
    assert {f.pointer: f.detail for f in faults(refused.value, document)} == {
        "#/data/outcome": "最多 32 个字符",
        "#/data/reason": "不能为空",
        "#/data/officr": "没有这个字段，请检查拼写",
        "#/data/version": "应为整数",
    }


def test_a_problem_lists_a_hundred_findings_and_says_that_there_are_more() -> None:
    finding = faults(_refusal({}), {})[0]
    few = problem("refused", "不予受理", "共100处问题", [finding] * MOST)
    many = problem("refused", "不予受理", "共101处问题", [finding] * (MOST + 1))
    assert (len(few.errors), few.truncated) == (MOST, False)
    assert (len(many.errors), many.truncated) == (MOST, True)
    mild = finding.model_copy(update={"severity": "info"})
    mixed = problem("refused", "不予受理", "共102处问题", [*([mild] * MOST), finding, finding])
    assert [f.severity for f in mixed.errors] == ["hard", "hard", *(["info"] * (MOST - 2))]
    assert few.type == "urn:cn:gov:gz:sme:problem:refused"
    assert (few.status, problem("x", "x", "x", status=409).status) == (422, 409)


def _refusal(document: dict[str, Any]) -> ValidationError:
    with pytest.raises(ValidationError) as refused:
        SubmissionFiled.model_validate(document)
    return refused.value


@pytest.mark.parametrize(
    ("rule", "more", "expected"),
    [
        ("R-GEN-012", {"reason": "同意"}, "met"),
        ("R-GEN-012", {"reason": ""}, "broken"),
        ("R-GEN-012", {}, "broken"),
    ],
)
def test_a_decision_needs_a_reason(rule: str, more: dict[str, str], expected: str) -> None:
    """Who and when is proven by the envelope; why must be said."""
    made = {"case": "0b6a7c1e-2f4d-5a89-9c3e-7d1f60a2b845", "outcome": "accept", **more}
    if expected == "met":
        assert DecisionMade.model_validate(made).reason
        return
    with pytest.raises(ValidationError, match="reason"):
        DecisionMade.model_validate(made)
