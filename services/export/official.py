"""What an official document says, apart from how its page looks (GB/T 9704-2012).

Its words are not here: they are in `lists.py`; nor its page, which is a renderer's.
"""

from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True)
class Table:
    """`headers` and `rows` have one text a column."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Document:
    """The parts in the order in which they stand on the page; what is empty is left out."""

    title: str
    paragraphs: tuple[str, ...]
    signature: str
    date: date
    addressee: str = ""
    tables: tuple[Table, ...] = ()
    annexes: tuple[str, ...] = ()
    """Their names, which the document lists as `附件：1.…`."""
    note: str = ""
