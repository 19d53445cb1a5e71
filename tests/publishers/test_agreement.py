"""A publisher who validates before it sends gets the verdict of the services: ajv, jsonschema and our decoder say the
same of every event, good or bad.

The events are made in `events.py`; what may change in a schema is not here.
"""

import copy
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from shared.contracts.registry import EVENTS, EventType
from shared.contracts.schemas import UNSAID, nodes, of_event
from tests.goldens import goldens
from tests.publishers import events, judges
from tests.publishers.events import INBOUND, SOURCE, Made, made
from tests.publishers.judges import Verdict

COUNT = 10_000
JUDGES = ("services", "ajv", "ajv with formats", "jsonschema", "jsonschema with formats")
BY_TYPE = {e.ce_type: e for e in EVENTS}


def verdicts(
    found: Sequence[tuple[EventType, bytes]], folder: Path, schemas: dict[str, Any] | None = None
) -> list[tuple[Verdict, ...]]:
    """By each judge, in the order of `JUDGES`."""
    return [
        (judges.services(type_, body), *theirs, *judges.jsonschema(type_, body))
        for (type_, body), theirs in zip(found, judges.ajv(found, folder, schemas), strict=True)
    ]


def wrong(one: Made, said: tuple[Verdict, ...]) -> dict[str, Any] | None:
    """What each said, where they do not say the same, or not what must be said."""
    ours, *theirs = (verdict.good for verdict in said)
    expected = (one.ours, {one.theirs}) if one.ours is not None else (ours, {ours})
    if (ours, set(theirs)) == expected:
        return None
    why = {name: "good" if verdict.good else verdict.why for name, verdict in zip(JUDGES, said, strict=True)}
    return {"type": one.type.name, "kind": one.kind, "end": one.body[-300:], **why}


def test_all_say_the_same_of_ten_thousand_events(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = list(made(COUNT))
    said = verdicts([(one.type, one.body) for one in found], tmp_path)
    faults = [fault for one, verdict in zip(found, said, strict=True) if (fault := wrong(one, verdict))]
    good: Counter[str] = Counter()
    bad: Counter[str] = Counter()
    for one, verdict in zip(found, said, strict=True):
        (good if verdict[0].good else bad)[one.kind] += 1
    lines = [f"{good[kind]:6} good {bad[kind]:6} bad   {kind}" for kind, *_ in events.KINDS]
    types = len({one.type.name for one in found})
    lines.append(
        f"{good.total():6} good {bad.total():6} bad   of {types} types; {len(faults)} disagreements, and "
        f"{sum(bad[kind] for kind in UNSAID)} that no schema can tell"
    )
    with capsys.disabled():
        print("\n" + "\n".join(lines))  # noqa: T201 - the figures
    assert faults == []
    assert types == len(INBOUND)
    # Each judge had something to say either way, of every kind.
    assert min(good[kind] for kind in events.GOOD) > 20
    assert min(bad[kind] for kind in (*events.BAD, *events.UNSAID)) > 20
    assert min(good.total(), bad.total()) > COUNT / 4


def test_they_are_the_same_ones_every_time() -> None:
    first = [one.body for one in made(500)]
    events.samples.cache_clear()
    assert [one.body for one in made(500)] == first


def test_what_no_schema_can_say_is_listed_and_told_in_the_schema() -> None:
    """All but the size, which the bus refuses before anybody decodes."""
    assert {*events.UNSAID, "size"} == set(UNSAID)
    for type_ in INBOUND:
        assert all(why in of_event(type_)["$comment"] for why in UNSAID.values())


def test_golden_examples_are_good_to_all(tmp_path: Path) -> None:
    found = [(BY_TYPE[path.parts[-3]], path.read_bytes()) for path in goldens()]
    assert {type_.ce_type for type_, _ in found} == set(BY_TYPE)
    # Ours speak for themselves; of the others each judge is told whose subject it is.
    asked = [
        (type_, events.wire({**json.loads(body), "source": SOURCE}) if type_.cls == "in" else body)
        for type_, body in found
    ]
    said = verdicts(asked, tmp_path)
    assert [
        (type_.name, v) for (type_, _), v in zip(asked, said, strict=True) if not all(x.good for x in v)
    ] == []


def test_binary_mode_gets_the_verdict_of_structured_mode() -> None:
    """Where a header can say what the attribute says."""
    counted: Counter[bool] = Counter()
    for one in made(2000):
        found = judges.binary(one.type, one.body)
        if found is not None:
            ours = judges.services(one.type, one.body).good
            assert found.good == ours, (one.kind, one.body[-300:], found.why)
            counted[found.good] += 1
    assert min(counted.values()) > 400


def _without(*words: str) -> Callable[[EventType], dict[str, Any]]:
    """The schema as if it did not know these keywords."""

    def schema(type_: EventType) -> dict[str, Any]:
        made: dict[str, Any] = copy.deepcopy(of_event(type_))
        for node in list(nodes(made)):
            for word in words:
                node.pop(word, None)
        return made

    return schema


def _pydantics(type_: EventType) -> dict[str, Any]:
    return type_.envelope.model_json_schema()


@pytest.mark.parametrize(
    ("kind", "schema"),
    [
        ("a field that there is not", _without("additionalProperties")),
        ("no moment", _without("pattern", "not")),
        ("U+0000", _pydantics),
    ],
    ids=["open where we are closed", "only a format, for moments", "pydantic's own"],
)
def test_control_a_schema_that_says_less_is_seen(
    kind: str, schema: Callable[[EventType], dict[str, Any]], tmp_path: Path
) -> None:
    found = [one for one in made(1200) if one.kind == kind]
    others = {type_.ce_type: schema(type_) for type_ in INBOUND}
    said = verdicts([(one.type, one.body) for one in found], tmp_path, others)
    faults = [fault for one, verdict in zip(found, said, strict=True) if (fault := wrong(one, verdict))]
    assert [fault for fault in faults if fault["ajv with formats"] == "good"]
