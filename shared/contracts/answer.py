"""What a publisher that was away asks, over core NATS request/reply: plain JSON, one document each way.

The answers themselves are events (`submission.py`); finding them is intake's.
"""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, StringConstraints

from shared.contracts.scalars import SAFE, Json, Whole, integral
from shared.contracts.types import Inbound, Outbound

AT_MOST = 100
"""Answers in one reply; fewer, should they be large."""

EventId = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,128}$")]
Feedback = Json
"""An `event.accepted` or `event.rejected` as it stands on the bus."""


class StatusAsked(Inbound):
    """What became of the event with this id; the publisher is proven by the subject."""

    id: EventId


class StatusTold(Outbound):
    """`unanswered`: no answer is known, so the event was not received, or is not judged yet. Sending it again with the
    same id is always right. `answer` is absent when it is so old that the bus has forgotten it."""

    id: str
    state: Literal["accepted", "rejected", "unanswered"]
    answer: Feedback | None = None


class AnswersAsked(Inbound):
    """All that the publisher was told (`sme.out`) behind `after`, the number (`seq`) of the last one that it has."""

    after: Annotated[int, Field(ge=0, le=SAFE), BeforeValidator(integral)] = 0
    limit: Annotated[int, Field(ge=1, le=AT_MOST), BeforeValidator(integral)] = AT_MOST


class Answer(Outbound):
    seq: Whole
    event: Feedback


class AnswersTold(Outbound):
    """The oldest first. `last` is what to ask behind the next time; `more` when there are some already."""

    answers: tuple[Answer, ...]
    last: Whole
    more: bool
