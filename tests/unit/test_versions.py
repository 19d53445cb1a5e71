"""What is done with an event of another version: its own model if we have it, kept if only a later release has it, and
refused if nobody can have it.

That what is kept is handled after the upgrade, once, is in `tests/live/test_versions.py`.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest

from shared.contracts import registry
from shared.contracts.envelope import OUR_SOURCE
from shared.contracts.registry import (
    MAIL_SENT,
    SCORE_GIVEN,
    SUBMISSION_FILED,
    EventType,
    is_later,
    of_subject,
)
from shared.contracts.submission import SubmissionFiled
from shared.runtime.decode import LATER, Dead, Item, Raw, decode
from shared.runtime.streams import Consumer
from tests.goldens import golden

AT = datetime(2025, 3, 3, tzinfo=UTC)
WHO = "440106"
EXAMPLE = json.loads(golden(SUBMISSION_FILED.ce_type).read_bytes())
NAME = "cn.gov.gz.sme.submission.filed"


class SubmissionFiled2(SubmissionFiled):
    """What the next major might be: neither understands the other."""

    channel: str


NEXT = EventType("submission.filed", "in", SubmissionFiled2, registry.AGENCY, ("intake",), major=2)


@pytest.fixture
def upgraded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A release that knows both."""
    monkeypatch.setitem(registry._BY_NAME, ("in", "submission.filed"), (NEXT, SUBMISSION_FILED))


def document(**more: Any) -> dict[str, Any]:
    return {**EXAMPLE, "source": f"urn:cn:gov:gz:{WHO}:oa", **more}


def second(**more: Any) -> dict[str, Any]:
    """An event of the next major."""
    return document(**{"type": f"{NAME}.v2", "data": {**EXAMPLE["data"], "channel": "oa"}, **more})


def judged(
    made: Any, type_: EventType = SUBMISSION_FILED, headers: Mapping[str, str] | None = None
) -> Item | Dead:
    body = made if isinstance(made, bytes) else json.dumps(made).encode()
    return decode(Raw(type_.subject(WHO), body, headers, "SME_IN", 1, AT), {type_.name: type_})


def fate(made: Any, **more: Any) -> str:
    found = judged(made, **more)
    return found.code if isinstance(found, Dead) else f"handled as v{found.type.major}"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("v2", True),
        ("v10", True),
        ("v9999", True),
        ("v1", False),
        ("v0", False),
        ("v02", False),
        ("v10000", False),
        ("v2.1", False),
        ("v２", False),
        ("v2\n", False),
        ("", False),
    ],
)
def test_what_only_a_later_release_can_know(said: str, expected: bool) -> None:
    assert is_later(SUBMISSION_FILED, f"{NAME}.{said}") == expected
    assert not is_later(SCORE_GIVEN, f"{NAME}.{said}")


def test_a_later_version_is_kept_and_not_refused() -> None:
    found = judged(second())
    assert isinstance(found, Dead)
    assert (found.code, found.why, found.id, found.type, found.problem) == (
        LATER, f"{NAME}.v2", EXAMPLE["id"], f"{NAME}.v2", None,
    )  # fmt: skip


def test_its_data_may_be_anything() -> None:
    assert fate(document(type=f"{NAME}.v2", data={"quite": ["different"]})) == LATER
    # Also what the version that we know would have taken.
    assert fate(document(type=f"{NAME}.v2")) == LATER


def test_binary_mode_is_kept_alike() -> None:
    made = second()
    data = made.pop("data")
    headers = {f"ce-{k}": quote(str(v)) for k, v in made.items()}
    assert fate(json.dumps(data).encode(), headers=headers) == LATER


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a source that is another's": ({"source": "urn:cn:gov:gz:440105:oa"}, "identity"),
    "no id": ({"id": None}, "schema"),
    "no moment": ({"time": "2026-03-03T09:00:00"}, "schema"),
    "data that is a text": ({"data": "{}"}, "schema"),
    "what no database takes": ({"data": {"x": "a\0b"}}, "schema"),
    "a version that never was": ({"type": f"{NAME}.v0"}, "schema"),
    "a version that cannot be": ({"type": f"{NAME}.v2a"}, "schema"),
    "another event": ({"type": "cn.gov.gz.sme.score.given.v2"}, "schema"),
    "no type": ({"type": 2}, "schema"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_no_later_release_would_take_is_refused_at_once(what: str) -> None:
    change, code = REFUSED[what]
    found = judged(second(**change))
    assert isinstance(found, Dead)
    assert found.code == code
    assert found.problem is not None


def test_another_event_that_fits_is_told_what_the_subject_carries(upgraded: None) -> None:
    found = judged(second(type="cn.gov.gz.sme.score.given.v1"))
    assert isinstance(found, Dead)
    assert found.problem
    assert (found.code, found.problem.detail) == ("type", f"主题应承载 {NAME}.v2、{NAME}.v1")


def test_our_own_later_events_are_kept_and_those_of_others_are_not() -> None:
    """Between releases that run together, too."""
    made = {**EXAMPLE, "type": "cn.gov.gz.sme.mail.sent.v2", "source": OUR_SOURCE}
    assert fate(made, type_=MAIL_SENT) == LATER
    assert fate({**made, "source": f"urn:cn:gov:gz:{WHO}:oa"}, type_=MAIL_SENT) == "identity"


def test_each_version_is_handled_by_its_own_model(upgraded: None) -> None:
    assert of_subject(SUBMISSION_FILED.subject(WHO)) == (NEXT, WHO)
    assert fate(second()) == "handled as v2"
    assert fate(document()) == "handled as v1"
    assert fate(document(type=f"{NAME}.v3")) == LATER


@pytest.mark.parametrize(
    ("made", "place"), [(second(), "#/data/channel"), (document(), "#/data/form")], ids=["v2", "v1"]
)
def test_its_faults_are_those_of_its_own_model(upgraded: None, made: dict[str, Any], place: str) -> None:
    data = {k: v for k, v in made["data"].items() if f"#/data/{k}" != place}
    found = judged({**made, "data": data})
    assert isinstance(found, Dead)
    assert found.problem
    assert [(e.code, e.pointer) for e in found.problem.errors] == [("schema.missing", place)]


def test_one_identity_whatever_release_reads_it(upgraded: None) -> None:
    """An id is used once, by whichever version."""
    new = judged(second())
    old = judged(document())
    assert isinstance(new, Item)
    assert isinstance(old, Item)
    assert new.key == old.key
    assert new.digest != old.digest


def test_two_versions_are_one_subject_of_a_consumer() -> None:
    """The server refuses one that is named twice."""
    both = Consumer("intake", (SUBMISSION_FILED, NEXT)).config()
    assert both.filter_subjects == [SUBMISSION_FILED.pattern]


def test_versions_of_an_event_are_said_and_heard_by_the_same() -> None:
    """They share its subject, so whoever is let in to one has the other."""
    for versions in registry._BY_NAME.values():
        assert len({(e.says, e.hears, e.alone) for e in versions}) == 1, versions[0].name
        assert len({e.major for e in versions}) == len(versions), versions[0].name
