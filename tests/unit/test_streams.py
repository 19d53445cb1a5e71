"""JetStream as data: every stream keeps what it accepted, and what differs is said exactly."""

from dataclasses import replace
from typing import Any

import pytest
from nats.js.api import ConsumerConfig, DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from pydantic import ValidationError

from shared.contracts import registry
from shared.contracts.registry import CHUNK, file_subject
from shared.runtime.delivery import MOST_BYTES
from shared.runtime.settings import Settings
from shared.runtime.streams import CONSUMERS, DAYS, FILE, FORGETS, IN, STREAMS, aged, differs


@pytest.mark.parametrize("stream", STREAMS, ids=lambda s: str(s.name))
def test_a_stream_forgets_nothing_and_lets_nobody_forget(stream: StreamConfig) -> None:
    assert (stream.retention, stream.storage, stream.discard) == (
        RetentionPolicy.LIMITS,
        StorageType.FILE,
        DiscardPolicy.NEW,
    )
    assert (stream.deny_delete, stream.deny_purge) == (True, True)
    # With any of these a publisher could wipe the stream, or speak under another's subject.
    assert not stream.allow_rollup_hdrs
    assert not stream.allow_msg_ttl
    assert not stream.allow_msg_schedules
    assert stream.max_age is None
    assert stream.max_bytes
    assert stream.duplicate_window == 7200


@pytest.mark.parametrize("days", [30, DAYS])
def test_what_says_who_a_person_is_is_forgotten_one_day(days: int) -> None:
    """SME_IN, EVT, OUT and FILE carry what people wrote. Long after nobody could send it a second time under the protection of the dedupe window."""
    for stream in aged(days):
        assert stream.duplicate_window
        assert stream.max_age == (days * 86400 if stream.name in FORGETS else None)
        assert days * 86400 > 100 * stream.duplicate_window


def test_nobody_can_have_the_bus_forget_what_is_not_read_yet() -> None:
    assert Settings(stream_days=30).stream_days == 30
    assert Settings().stream_days == DAYS
    with pytest.raises(ValidationError):
        Settings(stream_days=29)


def test_only_listed_events_enter_from_outside() -> None:
    (inbound,) = (s for s in STREAMS if s.name == IN)
    assert inbound.subjects == [
        "sme.in.v1.*.submission.filed",
        "sme.in.v1.*.package.filed",
        "sme.in.v1.*.catalogue.recorded",
        "sme.in.v1.*.decision.made",
        "sme.in.v1.*.decisions.made",
        "sme.in.v1.*.decisions.settled",
        "sme.in.v1.*.score.given",
        "sme.in.v1.*.fact.reported",
        "sme.in.v1.*.mails.settled",
        "sme.in.v1.*.catalogue.requested",
        "sme.in.v1.*.contact.changed",
        "sme.in.v1.*.title.granted",
        "sme.in.v1.*.investment.approved",
    ]


def test_what_we_say_fits_into_every_stream() -> None:
    assert {s.max_msg_size for s in STREAMS} == {1024 * 1024}
    assert MOST_BYTES + 4096 < 1024 * 1024
    assert CHUNK + 4096 < 1024 * 1024


def test_a_chunk_says_nothing_new_twice() -> None:
    (files,) = (s for s in STREAMS if s.name == FILE)
    assert (files.max_msgs_per_subject, files.discard_new_per_subject) == (1, True)
    assert file_subject("440106", "ab", 3) == "sme.file.v1.440106.ab.3"


def test_consumers_are_named_by_service_and_stream() -> None:
    assert {c.durable: (c.stream, [e.name for e in c.events]) for c in CONSUMERS} == {
        "intake-in": (
            "SME_IN",
            [
                "submission.filed",
                "package.filed",
                "catalogue.recorded",
                "title.granted",
                "investment.approved",
            ],
        ),
        "intake-out": ("SME_OUT", ["event.accepted", "event.rejected"]),
        "intake-evt": ("SME_EVT", ["case.returned", "case.closed", "case.published"]),
        "review-in": (
            "SME_IN",
            ["decision.made", "decisions.made", "decisions.settled", "score.given", "fact.reported"],
        ),
        "review-evt": ("SME_EVT", ["submission.accepted"]),
        "notify-in": ("SME_IN", ["mails.settled", "contact.changed"]),
        "notify-evt": (
            "SME_EVT",
            [
                "submission.refused",
                "package.judged",
                "case.opened",
                "case.advanced",
                "case.returned",
                "case.closed",
                "case.published",
                "catalogue.published",
                "audit.headed",
            ],
        ),
        "export-in": ("SME_IN", ["catalogue.requested"]),
        "export-evt": ("SME_EVT", ["case.closed", "case.published"]),
    }


def test_a_consumer_filters_what_it_hears() -> None:
    (export,) = (c for c in CONSUMERS if c.durable == "export-in")
    config = export.config()
    assert config.filter_subjects == [registry.CATALOGUE_REQUESTED.pattern]
    assert (config.ack_wait, config.max_deliver) == (60, 20)
    # FastStream changes the object that it is given.
    assert export.config() is not config


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        ({}, []),
        ({"ack_wait": 5.0}, ["ack_wait: 5.0, should be 60"]),
        ({"max_deliver": 2}, ["max_deliver: 2, should be 20"]),
        ({"description": "set by the server"}, []),
        ({"metadata": {"_nats.ver": "2.15.1"}}, []),
        (
            {"filter_subjects": ["a"]},
            ["filter_subjects: ['a'], should be ['sme.in.v1.*.catalogue.requested']"],
        ),
        ({"filter_subjects": None}, ["filter_subjects: [], should be ['sme.in.v1.*.catalogue.requested']"]),
    ],
)
def test_a_difference_is_said_with_both_values(change: dict[str, Any], lines: list[str]) -> None:
    (export,) = (c for c in CONSUMERS if c.durable == "export-in")
    assert differs(export.config(), replace(export.config(), **change)) == lines


def test_the_order_of_a_list_is_no_difference() -> None:
    assert (
        differs(ConsumerConfig(filter_subjects=["a", "b"]), ConsumerConfig(filter_subjects=["b", "a"])) == []
    )
    assert differs(ConsumerConfig(), None) == ["(missing)"]
