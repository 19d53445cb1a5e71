"""What is filed: a row as an event, a package of workbooks, and intake's answers.

How rows are judged is not here: that is `shared/notices`.
"""

from typing import Annotated, Literal

from pydantic import Field

from shared.contracts.problem import Problem
from shared.contracts.scalars import Day, Id, Moment, Whole
from shared.contracts.types import (
    Assessment,
    FileRef,
    Finding,
    Inbound,
    ItemKind,
    Kind,
    Mode,
    Outbound,
    Party,
    Short,
    Token,
    Values,
)


class Filer(Inbound):
    """The unit that files (K1–K6). `code` must be the publisher; `kind` and `name` must match the directory."""

    code: Token
    kind: Kind
    name: Short
    email: Annotated[str, Field(max_length=254)] | None = None
    miit_registered: bool | None = None


class SubmissionFiled(Inbound):
    """One row of one annex, filed as an event (征集通知·三).

    `recommender` is the code of the K1, K2 or K5 agency that is asked to recommend it; without one it is
    filed straight to the city. `case` names the case that a corrected row answers, when its name changed.
    """

    notice: Short
    form: Annotated[str, Field(max_length=16)]
    filer: Filer
    recommender: Token | None = None
    direction: Annotated[str, Field(max_length=16)] | None = None
    item_kind: ItemKind | None = None
    values: Values
    files: Annotated[tuple[FileRef, ...], Field(max_length=40)] = ()
    case: Id | None = None


class PackageFiled(Inbound):
    """Filled-in annex workbooks and their sealed scans, filed together (征集通知·三). With `only_faults` the marked
    copies have only the rows that were not taken without a word."""

    notice: Short
    filer: Filer
    recommender: Token | None = None
    mode: Mode = "valid_rows"
    only_faults: bool = False
    files: Annotated[tuple[FileRef, ...], Field(min_length=1, max_length=40)]


class SubmissionAccepted(Outbound):
    """A row that may become, or amend, a case. `revision` counts the filings of the same item."""

    case: Id
    number: str
    revision: Whole
    notice: str
    form: str
    filer: Party
    recommender: str | None = None
    unit: str
    district: str
    direction: str | None = None
    item_kind: ItemKind
    title: str
    values: Values
    findings: tuple[Finding, ...]
    late: bool
    received: Moment
    package: str | None = None
    counts: tuple[str, ...] = ()
    """Names of the notice's tallies that this item adds to; reminders are spared by some of them."""
    assessments: tuple[Assessment, ...] = ()
    about: Id | None = None
    """Of a report: the case that it tells of."""
    period: str = ""
    """Of a report: the year, or year and quarter, that it is about: `2025`, `2025-3`."""


class SubmissionRefused(Outbound):
    """A row filed as an event that the notice does not allow."""

    notice: str
    form: str
    filer: Party
    district: str = ""
    title: str
    findings: tuple[Finding, ...]
    received: Moment


class JudgedSheet(Outbound):
    file: str
    form: str | None = None
    sheet: str | None = None
    rows: Whole
    accepted: Whole
    numbers: tuple[str, ...] = ()
    """Of the case that each accepted row belongs to, in the order of the sheet; of the first 20."""
    marked: str | None = None


class PackageJudged(Outbound):
    """The answer to a package: what was read, what was accepted, what must be corrected.

    `marked` of a sheet is the SHA-256 of the filer's own workbook with the faults in their cells.
    """

    package: str
    notice: str
    filer: Party
    district: str
    mode: Mode
    outcome: Literal["accepted", "partly", "refused"]
    sheets: tuple[JudgedSheet, ...]
    findings: tuple[Finding, ...]
    late: bool
    received: Moment


class EventAccepted(Outbound):
    """Feedback to a publisher: what it filed is stored and judged acceptable; `errors` are warnings, and of a package
    that was partly taken also why its other rows were not."""

    accepted: str
    type: str
    case: Id | None = None
    number: str | None = None
    errors: tuple[Finding, ...] = ()
    truncated: bool = False


class Rejected(Outbound):
    """Which event was refused; `id` is absent when the event could not be read."""

    id: str | None = None
    type: str | None = None
    subject: str
    stream: str
    seq: Whole


class EventRejected(Problem):
    """Feedback to a publisher: what is wrong, where, by which clause (RFC 9457)."""

    rejected: Rejected


class EventKept(Outbound):
    """Feedback to a publisher: what it filed is of a later version than this release knows. It is kept, nothing need be
    sent again; after the upgrade it is handled as of when it was received, and `event.accepted` or `event.rejected`
    follows."""

    kept: str
    type: str
    detail: str
    detail_en: str


class EarlierRow(Inbound):
    name: Short
    unit: Short
    serial: Whole | None = None


class CatalogueRecorded(Inbound):
    """A catalogue published before this system ran, so that repeats are recognised (附件5 注)."""

    form: Annotated[str, Field(max_length=16)]
    title: Short
    published_on: Day
    rows: Annotated[tuple[EarlierRow, ...], Field(min_length=1, max_length=2000)]
