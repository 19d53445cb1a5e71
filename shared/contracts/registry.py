"""The one list of everything that crosses the bus: type, subject, who says it, who hears it, payload.

How it travels is not here: that is `shared/runtime`.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Literal

from pydantic import BaseModel
from pydantic_core import to_json

from shared.contracts import answer, case, catalogue, contact, enterprise, mail, submission
from shared.contracts.envelope import OUR_SOURCE, Envelope, derived_id, traceparent

Class = Literal["in", "evt", "out", "audit"]
PREFIX = "cn.gov.gz.sme."
_MAJOR = re.compile(r"[1-9][0-9]{0,3}")


@dataclass(frozen=True)
class EventType:
    """`name` is `<entity>.<fact>`; the rest of type and subject follows from it.

    Subjects: `sme.in.v1.<publisher>.<name>` from outside, `sme.evt.v1.<name>.<district>` between our
    services, `sme.out.v1.<publisher>.<name>` back to a publisher, `sme.audit.v1.<service>.<name>` for the record.
    Two majors of one name are two of these, side by side on the same subject: whoever hears one hears the other.
    """

    name: str
    cls: Class
    payload: type[BaseModel]
    says: tuple[str, ...]
    hears: tuple[str, ...]
    major: int = 1
    alone: bool = False
    """Handled in a transaction of its own: it may be as large as all the others of a batch."""

    @property
    def ce_type(self) -> str:
        return f"{PREFIX}{self.name}.v{self.major}"

    @cached_property
    def envelope(self) -> type[Envelope[Any]]:
        """A named subclass, so that schemas and generated classes get a readable ASCII title."""
        title = "".join(part.capitalize() for part in self.name.split(".")) + f"V{self.major}"
        # mypy cannot follow a class made from a value; the type argument is checked by pydantic here.
        return type(title, (Envelope[self.payload],), {"__module__": __name__})  # type: ignore[name-defined]

    def subject(self, token: str) -> str:
        """The subject for one publisher, or one district."""
        if self.cls == "evt":
            return f"sme.evt.v1.{self.name}.{token}"
        return f"sme.{self.cls}.v1.{token}.{self.name}"

    @property
    def pattern(self) -> str:
        return self.subject("*")

    def wire(
        self,
        data: BaseModel,
        *cause: object,
        at: datetime,
        subject: str | None = None,
        causation: str | None = None,
        trace: str | None = None,
    ) -> tuple[str, bytes]:
        """The id and the structured document of one of our own events: `event(…).wire()` without building
        an envelope that nobody looks at (a third of what a service says costs otherwise)."""
        id_ = derived_id(self.ce_type, *cause)
        head = {"specversion": "1.0", "id": id_, "source": OUR_SOURCE, "type": self.ce_type}
        if subject is not None:
            head["subject"] = subject
        head |= {"time": at.isoformat(), "datacontenttype": "application/json"}
        if causation is not None:
            head["causationid"] = causation
        head["traceparent"] = traceparent(data, id_, trace)
        body = data.__pydantic_serializer__.to_json(data, exclude_none=True)
        return id_, to_json(head)[:-1] + b',"data":' + body + b"}"

    def event(
        self,
        data: BaseModel,
        *cause: object,
        at: datetime,
        source: str = OUR_SOURCE,
        subject: str | None = None,
        causation: str | None = None,
    ) -> Envelope[Any]:
        """An event whose id follows from its cause."""
        id_ = derived_id(self.ce_type, *cause)
        return self.envelope.model_construct(
            specversion="1.0",
            id=id_,
            source=source,
            type=self.ce_type,
            subject=subject,
            time=at,
            datacontenttype="application/json",
            dataschema=None,
            correlationid=None,
            causationid=causation,
            traceparent=traceparent(data, id_) if source == OUR_SOURCE else None,
            data=data,
        )


@dataclass(frozen=True)
class Ask:
    """A question of a publisher that one of our services answers at once: core NATS request/reply, no stream. Plain
    JSON each way; a question that is none is answered with a problem document (`problem.py`)."""

    name: str
    payload: type[BaseModel]
    answer: type[BaseModel]
    hears: str

    def subject(self, token: str) -> str:
        return f"sme.ask.v1.{token}.{self.name}"

    @property
    def pattern(self) -> str:
        return self.subject("*")


AGENCY = ("agency",)
CITY = ("city",)
EVERYBODY = ("intake", "review", "notify", "export")

SUBMISSION_FILED = EventType("submission.filed", "in", submission.SubmissionFiled, AGENCY, ("intake",))
PACKAGE_FILED = EventType("package.filed", "in", submission.PackageFiled, AGENCY, ("intake",), alone=True)
CATALOGUE_RECORDED = EventType("catalogue.recorded", "in", submission.CatalogueRecorded, CITY, ("intake",))
DECISION_MADE = EventType("decision.made", "in", case.DecisionMade, AGENCY, ("review",))
DECISIONS_MADE = EventType("decisions.made", "in", case.DecisionsMade, AGENCY, ("review",))
DECISIONS_SETTLED = EventType("decisions.settled", "in", case.DecisionsSettled, AGENCY, ("review",))
SCORE_GIVEN = EventType("score.given", "in", case.ScoreGiven, AGENCY, ("review",))
FACT_REPORTED = EventType("fact.reported", "in", case.FactReported, AGENCY, ("review",))
MAILS_SETTLED = EventType("mails.settled", "in", mail.MailsSettled, AGENCY, ("notify",))
CATALOGUE_REQUESTED = EventType("catalogue.requested", "in", catalogue.CatalogueRequested, CITY, ("export",))
CONTACT_CHANGED = EventType("contact.changed", "in", contact.ContactChanged, AGENCY, ("notify",))
TITLE_GRANTED = EventType("title.granted", "in", enterprise.TitleGranted, AGENCY, ("intake",))
INVESTMENT_APPROVED = EventType(
    "investment.approved", "in", enterprise.InvestmentApproved, AGENCY, ("intake",)
)

SUBMISSION_ACCEPTED = EventType(
    "submission.accepted", "evt", submission.SubmissionAccepted, ("intake",), ("review",)
)
SUBMISSION_REFUSED = EventType(
    "submission.refused", "evt", submission.SubmissionRefused, ("intake",), ("notify",)
)
TITLE_RECORDED = EventType("title.recorded", "evt", enterprise.TitleRecorded, ("intake",), ())
INVESTMENT_RECORDED = EventType("investment.recorded", "evt", enterprise.InvestmentRecorded, ("intake",), ())
PACKAGE_JUDGED = EventType("package.judged", "evt", submission.PackageJudged, ("intake",), ("notify",))
CASE_OPENED = EventType("case.opened", "evt", case.CaseOpened, ("review",), ("notify",))
CASE_ADVANCED = EventType("case.advanced", "evt", case.CaseAdvanced, ("review",), ("notify",))
CASE_RETURNED = EventType("case.returned", "evt", case.CaseReturned, ("review",), ("intake", "notify"))
CASE_CLOSED = EventType("case.closed", "evt", case.CaseClosed, ("review",), ("intake", "notify", "export"))
CASE_PUBLISHED = EventType(
    "case.published", "evt", case.CasePublished, ("review",), ("intake", "notify", "export")
)
CATALOGUE_PUBLISHED = EventType(
    "catalogue.published", "evt", catalogue.CataloguePublished, ("export",), ("notify",)
)
CATALOGUE_SUPERSEDED = EventType(
    "catalogue.superseded", "evt", catalogue.CatalogueSuperseded, ("export",), ()
)
AUDIT_HEADED = EventType("audit.headed", "evt", case.AuditHeaded, ("review",), ("notify",))
MAIL_SENT = EventType("mail.sent", "evt", mail.MailSent, ("notify",), ())
MAIL_FAILED = EventType("mail.failed", "evt", mail.MailFailed, ("notify",), ())
MAIL_UNKNOWN = EventType("mail.unknown", "evt", mail.MailUnknown, ("notify",), ())
MAIL_BOUNCED = EventType("mail.bounced", "evt", mail.MailBounced, ("notify",), ())

EVENT_ACCEPTED = EventType("event.accepted", "out", submission.EventAccepted, EVERYBODY, (*AGENCY, "intake"))
EVENT_REJECTED = EventType("event.rejected", "out", submission.EventRejected, EVERYBODY, (*AGENCY, "intake"))
EVENT_KEPT = EventType("event.kept", "out", submission.EventKept, EVERYBODY, AGENCY)

CASE_MOVED = EventType("case.moved", "out", case.CaseMoved, ("review",), AGENCY)

HISTORY_WRITTEN = EventType("history.written", "audit", case.HistoryWritten, ("review",), ())

EVENTS: tuple[EventType, ...] = (
    SUBMISSION_FILED,
    PACKAGE_FILED,
    CATALOGUE_RECORDED,
    DECISION_MADE,
    DECISIONS_MADE,
    DECISIONS_SETTLED,
    SCORE_GIVEN,
    FACT_REPORTED,
    MAILS_SETTLED,
    CATALOGUE_REQUESTED,
    CONTACT_CHANGED,
    TITLE_GRANTED,
    INVESTMENT_APPROVED,
    SUBMISSION_ACCEPTED,
    SUBMISSION_REFUSED,
    PACKAGE_JUDGED,
    TITLE_RECORDED,
    INVESTMENT_RECORDED,
    CASE_OPENED,
    CASE_ADVANCED,
    CASE_RETURNED,
    CASE_CLOSED,
    CASE_PUBLISHED,
    CATALOGUE_PUBLISHED,
    CATALOGUE_SUPERSEDED,
    AUDIT_HEADED,
    MAIL_SENT,
    MAIL_FAILED,
    MAIL_UNKNOWN,
    MAIL_BOUNCED,
    EVENT_ACCEPTED,
    EVENT_REJECTED,
    EVENT_KEPT,
    CASE_MOVED,
    HISTORY_WRITTEN,
)

EVENT_STATUS = Ask("event.status", answer.StatusAsked, answer.StatusTold, "intake")
EVENT_ANSWERS = Ask("event.answers", answer.AnswersAsked, answer.AnswersTold, "intake")
ASKS: tuple[Ask, ...] = (EVENT_STATUS, EVENT_ANSWERS)

_BY_NAME: dict[tuple[str, str], tuple[EventType, ...]] = {
    (e.cls, e.name): tuple(
        sorted((o for o in EVENTS if (o.cls, o.name) == (e.cls, e.name)), key=lambda o: -o.major)
    )
    for e in EVENTS
}
CASE_EVENTS = (CASE_OPENED, CASE_ADVANCED, CASE_RETURNED, CASE_CLOSED, CASE_PUBLISHED)


def of_subject(subject: str) -> tuple[EventType, str] | None:
    """The newest event type that a subject carries, and its free token (publisher or district)."""
    parts = subject.split(".")
    if len(parts) != 6 or parts[0] != "sme" or parts[2] != "v1":
        return None
    if parts[1] == "evt":
        token, name = parts[5], f"{parts[3]}.{parts[4]}"
    else:
        token, name = parts[3], f"{parts[4]}.{parts[5]}"
    found = _BY_NAME.get((parts[1], name))
    return (found[0], token) if found else None


def majors(type_: EventType) -> tuple[EventType, ...]:
    """All that its subject carries, the newest first."""
    return _BY_NAME[type_.cls, type_.name]


def is_later(type_: EventType, ce_type: str) -> bool:
    """It is the same event by a major that only a later release knows."""
    digits = ce_type.removeprefix(f"{PREFIX}{type_.name}.v")
    return _MAJOR.fullmatch(digits) is not None and int(digits) > majors(type_)[0].major


def file_subject(publisher: str, sha256: str, index: int) -> str:
    """One chunk of a file (≤ 512 KiB): content-addressed, so sending it twice stores it once."""
    return f"sme.file.v1.{publisher}.{sha256}.{index}"


CHUNK = 512 * 1024
