"""What the published JSON Schema of an event promises, and what is done with an event: the same, over the whole space.

The same documents go through the real services in `tests/chaos/test_bytes.py`.
"""

import json
from datetime import UTC, datetime
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from shared.contracts.registry import EVENTS, PACKAGE_FILED, SUBMISSION_FILED, EventType
from shared.contracts.schemas import of_event
from shared.runtime.clock import Clock
from shared.runtime.decode import Dead, Item, Raw, decode
from shared.runtime.delivery import Delivery
from tests.goldens import golden
from tests.schemas import ANYTHING, changed, good

INBOUND = [e for e in EVENTS if e.cls == "in"]
AT = datetime(2025, 3, 3, tzinfo=UTC)
PUBLISHER = "440106"
SAME = {"specversion": "1.0", "source": f"urn:cn:gov:gz:{PUBLISHER}:oa"}

lightly = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def judged(type_: EventType, document: Any) -> Item | Dead:
    raw = Raw(type_.subject(PUBLISHER), json.dumps(document).encode(), None, "SME_IN", 1, AT)
    return decode(raw, {type_.name: type_})


@cache
def validator(type_: EventType) -> Draft202012Validator:
    return Draft202012Validator(of_event(type_))


def agree(type_: EventType, document: Any) -> None:
    """The schema without any `format` says of a document what the services say of it."""
    verdict = judged(type_, document)
    if validator(type_).is_valid(document):
        assert isinstance(verdict, Item), verdict
        return
    assert isinstance(verdict, Dead), [e.message for e in validator(type_).iter_errors(document)]
    assert verdict.problem
    if verdict.code == "schema" and isinstance(document, dict):
        assert verdict.problem.errors or "U+0000" in verdict.problem.detail
        assert all(e.pointer.startswith("#/") for e in verdict.problem.errors)


@pytest.mark.parametrize("type_", INBOUND, ids=lambda e: e.name)
def test_what_a_schema_allows_is_an_event(type_: EventType) -> None:
    @lightly
    @given(good(of_event(type_)))
    def holds(document: dict[str, Any]) -> None:
        agree(type_, {**document, **SAME, "type": type_.ce_type})

    holds()


@pytest.mark.parametrize("type_", INBOUND, ids=lambda e: e.name)
def test_what_a_schema_does_not_allow_is_none_and_its_places_are_named(type_: EventType) -> None:
    documents = good(of_event(type_)).map(lambda d: {**d, **SAME, "type": type_.ce_type})

    @lightly
    @given(changed(documents, keep=frozenset({"source", "type"})))
    def holds(document: dict[str, Any]) -> None:
        agree(type_, document)

    holds()


@lightly
@given(ANYTHING, st.sampled_from(INBOUND))
@example(0, INBOUND[0])
def test_no_json_is_too_strange_to_be_judged(document: Any, type_: EventType) -> None:
    agree(type_, document)


@settings(lightly, max_examples=300)
@given(st.binary(max_size=300), st.sampled_from(INBOUND))
def test_no_bytes_are_too_strange_to_be_judged(body: bytes, type_: EventType) -> None:
    assert isinstance(decode(Raw(type_.subject("a"), body, None, "SME_IN", 1, AT), {type_.name: type_}), Dead)


LAX: dict[str, dict[str, Any]] = {
    "a moment that is a number": {"time": 0},
    "a number that is a text": {"data": {"form": "F3", "title": "x", "published_on": "2025-01-01",
                                         "rows": [{"name": "x", "unit": "y", "serial": "1"}]}},
    "a day that is a number": {"data": {"form": "F3", "title": "x", "published_on": 0,
                                        "rows": [{"name": "x", "unit": "y"}]}},
}  # fmt: skip


@pytest.mark.parametrize("what", LAX)
def test_nothing_is_read_into_an_event_that_its_schema_does_not_allow(what: str) -> None:
    type_ = next(e for e in INBOUND if e.name == "catalogue.recorded")
    data = {"form": "F3", "title": "x", "published_on": "2025-01-01", "rows": [{"name": "x", "unit": "y"}]}
    sound = {**SAME, "id": "1", "type": type_.ce_type, "time": "2025-03-03T09:00:00+08:00", "data": data}
    assert isinstance(judged(type_, sound), Item)
    assert not validator(type_).is_valid(sound | LAX[what])
    assert isinstance(judged(type_, sound | LAX[what]), Dead)


@pytest.mark.parametrize(
    ("batch", "expected"),
    [("", ["dead"]), ("ss", ["ss"]), ("p", ["p"]), ("sspss", ["ss", "p", "ss"]), ("pps", ["p", "p", "s"])],
)
async def test_what_may_be_large_has_a_transaction_of_its_own(batch: str, expected: list[str]) -> None:
    """And the rest of a batch, in its order, has one together; what is dead goes with the first."""
    types = {"s": SUBMISSION_FILED, "p": PACKAGE_FILED}
    seen: list[str] = []

    class Seen(Delivery):
        async def _transact(self, handler: Any, items: Any, dead: Any) -> Any:
            seen.append("".join(next(k for k, t in types.items() if t is i.type) for i in items) or "dead")
            assert len(dead) == (len(seen) == 1)

    raws = [
        Raw(
            types[letter].subject("440106"),
            golden(types[letter].ce_type).read_bytes(),
            None,
            "SME_IN",
            n,
            AT,
        )
        for n, letter in enumerate(batch)
    ]
    heard = {t.name: t for t in types.values()}
    delivery = Seen("intake", Any, Any, Clock(), {"intake-in": (heard, Any)})  # type: ignore[arg-type, dict-item]
    await delivery.commit(
        "intake-in", [*raws, Raw("sme.in.v1.x.package.filed", b"{", None, "SME_IN", 99, AT)]
    )
    assert seen == expected
