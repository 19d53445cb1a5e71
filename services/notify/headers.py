"""An e-mail policy that writes the headers of a mail at once, and those that all mails share only once.

Which headers there are is in `compose.py`. The standard library parses a header when it is set and again when it is
written, and makes a class for each: nine tenths of what composing a mail took. Whoever reads the mail reads the same,
a test compares.
"""

from datetime import datetime
from email.header import Header
from email.headerregistry import Address, HeaderRegistry
from email.policy import SMTP, EmailPolicy
from email.utils import format_datetime
from functools import lru_cache
from typing import Any

KEPT = 256
LINE = 78
STANDARD = SMTP.clone(refold_source="none")  # keeps what `set_raw` wrote
"""What the policy below must agree with."""


class _Registry(HeaderRegistry):
    def __init__(self) -> None:
        super().__init__()
        self._classes: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        name = name.lower()
        if name not in self._classes:
            self._classes[name] = super().__getitem__(name)
        return self._classes[name]


class AtOnce(EmailPolicy):
    """As `EmailPolicy`; what is asked for is parsed only then."""

    def header_store_parse(self, name: str, value: Any) -> Any:
        if isinstance(value, Address):
            return name, _mailbox(value, len(name) + 2)
        if isinstance(value, datetime):
            return name, format_datetime(value)
        if type(value) is str and value.isprintable():
            if name.lower() == "subject":
                return name, value
            if "boundary=" not in value:
                return _shared(name, value)
        return super().header_store_parse(name, value)

    def fold_binary(self, name: str, value: str) -> bytes:
        text = str(value)
        if text.isascii() and "=?" not in text and len(name) + 2 + len(text) <= LINE and text.isprintable():
            pass
        elif name.lower() == "subject":
            text = _words(text, len(name) + 2)
        elif name.lower() == "content-type" and hasattr(value, "params") and len(value.params) == 1:
            text = text.replace("; ", f";{self.linesep} ")
        else:
            return super().fold_binary(name, value)
        return f"{name}: {text}{self.linesep}".encode("ascii")


def _mailbox(address: Address, before: int) -> str:
    shown = address.display_name
    if shown.isascii() and "=?" not in shown:
        return str(address)
    return f"{_words(shown, before)}\r\n <{address.addr_spec}>"


def _words(text: str, before: int) -> str:
    """As RFC 2047 words, every character of it: what looks like such a word stays what it looks like."""
    return Header(text, "utf-8", maxlinelen=LINE - 2, header_name=" " * (before - 2)).encode(linesep="\r\n")


POLICY = AtOnce(linesep=SMTP.linesep, max_line_length=LINE, refold_source="none", header_factory=_Registry())


@lru_cache(maxsize=KEPT)
def _shared(name: str, value: str) -> Any:
    return EmailPolicy.header_store_parse(POLICY, name, value)
