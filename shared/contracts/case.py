"""What happens to a case: the decisions that agencies publish and the facts that review tells.

Which decision leads where is not here: that is the procedure of the notice.
"""

from datetime import date
from typing import Annotated
from uuid import UUID

from pydantic import AwareDatetime, Field

from shared.contracts.types import Inbound, ItemKind, Long, Outbound, Party, Short, Values


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
    findings (rule ids) that the decision passes over; for a quota that is the waiver of R-COL-013.
    `version` guards against deciding on something that has changed meanwhile.
    """

    case: UUID
    outcome: Annotated[str, Field(max_length=32)]
    reason: Annotated[Long, Field(min_length=1)]
    rules: tuple[str, ...] = ()
    acknowledges: tuple[str, ...] = ()
    fixes: tuple[Fix, ...] = ()
    version: int | None = None
    officer: Annotated[str, Field(max_length=64)] | None = None


class CaseChanged(Outbound):
    """The state of a case after one step. Readers keep the highest `version` and ignore lower ones."""

    case: UUID
    number: str
    version: int
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
    due: date | None = None
    provisional: bool = False
    package: str | None = None


class CaseOpened(CaseChanged):
    counts: tuple[str, ...] = ()
    """Names of the notice's tallies that this item adds to."""


class CaseAdvanced(CaseChanged): ...


class CaseReturned(CaseChanged): ...


class CaseClosed(CaseChanged): ...


class CasePublished(CaseChanged):
    """Carries the row itself: export needs nothing else. `filed` is its first filing, and so its place."""

    item_kind: ItemKind
    values: Values
    filed: AwareDatetime
