"""The value types that events and annex rows are made of.

Parsing what people type into a cell is not here: that is `shared/notices/values.py`.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from shared.contracts.personal import redact
from shared.contracts.scalars import Day, Json, Number, Whole, integral

Kind = Literal["city", "K1", "K2", "K3", "K4", "K5", "K6"]
"""Who files or recommends (征集通知·二·1–3); `city` is the issuing bureau itself."""

Severity = Literal["hard", "soft", "info"]
"""hard blocks the step, soft must be acknowledged by a reviewer, info is shown only."""

ItemKind = Literal["activity", "product", "title", "report"]
"""What is offered, the title that is applied for, or what is told of one that was granted."""

Verdict = Literal["met", "broken", "not_applicable", "not_in_force"]
Judgement = Literal["met", "not_met", "not_applicable"]
"""What a rule says of an item; what a person says of a condition that no rule can decide."""
Mode = Literal["valid_rows", "all_or_nothing"]

Post = Literal["filing", "review", "lead"]
"""What a contact person of an agency is written to for: what it files, what waits for its word, what its head must know."""

Token = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
"""One NATS subject token: the code of an agency."""

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Short = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Long = Annotated[str, StringConstraints(max_length=4000)]


class Inbound(BaseModel):
    """Closed: a publisher's typing error is told, not swallowed."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Outbound(BaseModel):
    """Open: readers ignore fields they do not know, so that writers may add some."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Contact(Inbound):
    """`联系人及联系方式`: one printed cell, three stored parts (spec §2.0)."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=50)]
    phones: Annotated[tuple[str, ...], Field(min_length=1)]
    email: str | None = None


class Period(Inbound):
    """A date or date range as printed, and as dates where the text says so."""

    text: Short
    start: Day | None = None
    end: Day | None = None


class Quantity(Inbound):
    """A count as printed (`约100人`, `3台`) and the number in it."""

    text: Short
    number: Whole | None = None


class Amount(Inbound):
    """An amount in the unit of its column header (万元), as printed and as a number."""

    text: Short
    number: Number | None = None


class Months(Inbound):
    """A term in months, as printed and as bounds."""

    text: Short
    min: Whole | None = None
    max: Whole | None = None


class Rate(Inbound):
    """A yearly rate or range in percent, as printed and as bounds."""

    text: Short
    min: Number | None = None
    max: Number | None = None


class FileRef(Inbound):
    """A file sent ahead as content-addressed chunks over the publisher's own subject."""

    role: Literal["scan", "workbook"]
    sha256: Sha256
    size: Annotated[int, Field(gt=0, le=20 * 1024 * 1024), BeforeValidator(integral)]
    name: Annotated[str, StringConstraints(min_length=1, max_length=120)]
    material: Annotated[str, Field(max_length=41)] | None = None
    """Which of the notice's materials this is; in a package its name may say so instead."""


class Party(Outbound):
    """An agency or institution as an event names it."""

    code: Token
    kind: Kind
    name: Short
    email: str | None = None


Unnamed = Annotated[str, AfterValidator(redact)]
"""A text that is told to others, of which a part may be quoted from somebody: no numbers or addresses of people."""


class Finding(Outbound):
    """One thing that is wrong with what was filed, located and explained (RFC 9457 `errors[]` shape).

    `rule` is the id of the spec (rule `R-COL-010` or field `F5.10`); `code` is stable, for machines;
    `detail` is Chinese, for people, and never contains the value itself where that may be personal: what a
    filer writes into the wrong place may be, too. `detail_en` says in English what kind of fault it is
    (`english.py`); feedback to publishers has it, our own events need not.
    """

    rule: str
    code: str
    severity: Severity
    clause: str
    detail: Unnamed
    detail_en: Unnamed | None = None
    pointer: Unnamed = ""
    file: str | None = None
    """Of a package: the SHA-256 of the workbook in which the sheet is, as its event names it."""
    sheet: str | None = None
    row: Whole | None = None
    cell: str | None = None


class Assessment(Outbound):
    """What a rule found in an item, met or not: the figure it looked at, and where the evidence is (keys of columns
    and materials)."""

    rule: str
    clause: str
    severity: Severity
    verdict: Verdict
    figure: str = ""
    evidence: tuple[str, ...] = ()


Values = Json
"""One annex row: column key → value, as the form's model dumps it (JSON types only)."""
