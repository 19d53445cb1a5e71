"""What happens to a case: the decisions that agencies publish and the facts that review tells.

Which decision leads where is not here: that is the procedure of the notice.
"""

from typing import Annotated, Literal

from pydantic import Field

from shared.contracts.scalars import Day, Id, Moment, Number, Whole
from shared.contracts.types import (
    Inbound,
    ItemKind,
    Judgement,
    Long,
    Outbound,
    Party,
    Sha256,
    Short,
    Token,
    Values,
)

Officer = Annotated[str, Field(max_length=64)]
"""The code by which an agency knows its own officer; never a name."""


class FixTold(Outbound):
    """One thing that a returned submission must correct: a column key of the form and what to do."""

    field: Annotated[str, Field(max_length=64)]
    detail: Short


class Fix(FixTold):
    """The same as an agency writes it: closed, as all that is inbound."""

    model_config = Inbound.model_config


class DecisionMade(Inbound):
    """A decision of the agency that publishes it, on one case (R-GEN-012).

    `outcome` is one that the procedure names for the stage the case is in. `acknowledges` lists the soft
    findings (rule ids) that the decision passes over; for a quota that is the waiver of R-COL-013. `judgements`
    are those of the conditions (rule ids) that only a person can judge. `version` guards against deciding on something that has changed meanwhile.
    """

    case: Id
    outcome: Annotated[str, Field(max_length=32)]
    reason: Annotated[Long, Field(min_length=1)]
    rules: tuple[str, ...] = ()
    acknowledges: tuple[str, ...] = ()
    fixes: tuple[Fix, ...] = ()
    judgements: dict[str, Judgement] = {}
    version: Whole | None = None
    officer: Officer | None = None


class DecisionsMade(Inbound):
    """Decisions on many cases, each by itself: one that may not be made does not stop the others. Those that
    `hold` are checked and kept until they are settled, and take effect only then."""

    decisions: Annotated[tuple[DecisionMade, ...], Field(min_length=1, max_length=500)]
    hold: bool = False


class DecisionsSettled(Inbound):
    """What becomes of decisions that were held: `held` is the id of the event that brought them."""

    held: Short
    action: Literal["release", "discard"]
    reason: Annotated[Long, Field(min_length=1)]
    officer: Officer | None = None


class Expert(Inbound):
    """One member of a panel, by a code: no name, no number. `employer` and `district` are compared with the case's;
    `conflict` is what the expert declares."""

    code: Token
    employer: Short
    district: Token | None = None
    conflict: bool = False


class ScoreGiven(Inbound):
    """One expert's score sheet for one case, published by whoever organises the panel (R-CLU-065). The last one of
    an expert counts."""

    case: Id
    expert: Expert
    points: dict[str, Number]
    officer: Officer | None = None


class FactReported(Inbound):
    """What another body knows of a case that may be a ground against it: an incident, an inspection, the score of a
    survey; or a change that must be reported. A person decides what follows.

    `ground` is the id of a ground in the notice. `detail` names no person.
    """

    case: Id
    kind: Literal["incident", "inspection", "survey", "change"]
    occurred_on: Day
    detail: Annotated[Long, Field(min_length=1)]
    ground: Annotated[str, Field(max_length=20)] | None = None
    score: Number | None = None
    reference: Short | None = None


class Change(Outbound):
    """A column of a row that was filed again, and what it said before and says now."""

    field: str
    before: str = ""
    after: str = ""


class Awaited(Outbound):
    """What a case waits for, and by when: a duty (DL-nn) for one `period` or, without a duty, the end of its stage's
    term. `began` is the day from which that is counted."""

    duty: str | None = None
    period: str = ""
    began: Day
    due: Day
    provisional: bool = False


class CaseChanged(Outbound):
    """The state of a case after one step. Readers keep the highest `version` and ignore lower ones."""

    case: Id
    number: str
    version: Whole
    notice: str
    form: str
    stage: str
    outcome: str
    actor: str
    filer: Party
    recommender: str | None = None
    unit: str
    district: str
    title: str
    late: bool
    reason: str = ""
    rules: tuple[str, ...] = ()
    acknowledges: tuple[str, ...] = ()
    fixes: tuple[FixTold, ...] = ()
    due: Day | None = None
    provisional: bool = False
    package: str | None = None
    changed: tuple[Change, ...] = ()
    duty: str | None = None
    """The duty (DL-nn) that was fulfilled, or missed."""
    period: str = ""
    score: Number | None = None
    awaits: tuple[Awaited, ...] = ()
    """All that it waits for after this step; `due` may be one of these days."""


class CaseOpened(CaseChanged):
    counts: tuple[str, ...] = ()
    """Names of the notice's tallies that this item adds to."""
    filed: Moment | None = None
    """When the bus stored the filing."""


class CaseAdvanced(CaseChanged): ...


class CaseReturned(CaseChanged): ...


class CaseClosed(CaseChanged): ...


class CasePublished(CaseChanged):
    """Carries the row itself: export needs nothing else. `filed` is its first filing, and so its place."""

    item_kind: ItemKind
    values: Values
    filed: Moment


class FilerTold(Outbound):
    """Who files, without an address."""

    code: Token
    name: Short


class CaseMoved(Outbound):
    """What the systems of other agencies hear of a case: where it stands after one step, without contact data and
    without what anybody has written. Keep the highest `version`."""

    case: Id
    number: str
    version: Whole
    notice: str
    form: str
    title: str
    stage: str
    outcome: str
    actor: str
    filer: FilerTold
    recommender: str | None = None
    district: str
    late: bool
    due: Day | None = None
    provisional: bool = False


class Line(Outbound):
    """One line of a case's history, by its hash alone: that covers the line and, by the one before, all earlier ones."""

    case: Id
    version: Whole
    hash: Sha256


class HistoryWritten(Outbound):
    """The lines that one transaction has added. Kept where the database cannot reach: what is changed there later
    differs from this."""

    lines: tuple[Line, ...]


class AuditHeaded(Outbound):
    """Once a day: everything that was ever said on the audit stream, in one hash. Written down elsewhere, it proves
    later that both copies are those of that day. `seq` is the stream's last message, `lines` all lines up to it,
    `dead` the events that nobody has seen to."""

    day: Day
    seq: Whole
    lines: Whole
    head: Sha256
    dead: Whole
