"""Catalogues: the request for one, and the fact that one was published.

How its bytes are made is not here: that is `services/export/sheet.py`.
"""

from datetime import date
from typing import Annotated

from pydantic import Field

from shared.contracts.types import Inbound, Outbound, Sha256, Short


class CatalogueRequested(Inbound):
    """The city asks for the catalogue of one annex, or of all annexes of a notice when `form` is absent.
    The `public` one has the columns that everybody may see; else it is as the annex prints it."""

    notice: Short
    form: Annotated[str, Field(max_length=16)] | None = None
    public: bool = False


class CataloguePublished(Outbound):
    """`object` names the file in the object store; the same rows always give the same `sha256`."""

    notice: str
    form: str
    title: str
    rows: int
    sha256: Sha256
    object: str
    size: int
    published_on: date
    public: bool = False
