"""Catalogues: the request for one, and the facts that one was published, and that it took the place of another.

How its bytes are made is not here: that is `services/export/formats.py`.
"""

from typing import Annotated

from pydantic import Field

from shared.contracts.scalars import Day, Whole
from shared.contracts.types import Inbound, Outbound, Sha256, Short


class CatalogueRequested(Inbound):
    """The city asks for the catalogue of one annex, or of all annexes of a notice when `form` is absent.
    The `public` one has the columns that everybody may see; else it is as the annex prints it."""

    notice: Short
    form: Annotated[str, Field(max_length=16)] | None = None
    public: bool = False


class CatalogueFile(Outbound):
    """One file of a catalogue; `object` names it in the object store, which keeps the newest version."""

    format: str
    object: str
    sha256: Sha256
    size: Whole


class CataloguePublished(Outbound):
    """`object` names the workbook in the object store, `files` that and every other format; the same rows always give
    the same `sha256`. Versions of one annex count from 1."""

    notice: str
    form: str
    title: str
    rows: Whole
    sha256: Sha256
    object: str
    size: Whole
    published_on: Day
    public: bool = False
    version: Whole = 1
    files: tuple[CatalogueFile, ...] = ()


class CatalogueSuperseded(Outbound):
    """A version is no longer the catalogue of its annex: the object store has `by`, the one after it. `fact` is what
    that led to it (`case.published`, `case.closed`, `catalogue.requested`)."""

    notice: str
    form: str
    public: bool
    version: Whole
    sha256: Sha256
    by: Whole
    rows: Whole
    fact: str
