"""Who stands at the door: agencies by the SHA-256 of their bearer token or of their client certificate.

Neither tokens nor keys are kept here, nor made: that is `yiqi publisher`.
"""

import hashlib
import hmac
import logging
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

log = logging.getLogger("yiqi.door")

TOKEN, CERTIFICATE = "token", "certificate"
_LINE = re.compile(rf"(?P<who>[a-z0-9][a-z0-9_-]*)\s+(?P<by>{TOKEN}|{CERTIFICATE})\s+(?P<digest>\S+)")
_BEARER = re.compile(r"bearer +([A-Za-z0-9._~+/-]+=*)", re.IGNORECASE)


class Unusable(ValueError):
    """A file of publishers that must not be worked with; the message names the line and never what stands in it."""


def digest(secret: bytes) -> str:
    return hashlib.sha256(secret).hexdigest()


def line(who: str, by: str, secret: bytes) -> str:
    """What the file of publishers says of one token, or of one certificate (DER)."""
    return f"{who} {by} {digest(secret)}"


@dataclass(frozen=True)
class Publishers:
    """An agency may have several of each, so that the next is known before the last is given up."""

    known: tuple[tuple[str, str, str], ...] = ()

    @classmethod
    def read(cls, lines: Iterable[str], agencies: Collection[str]) -> Self:
        found: dict[tuple[str, str], str] = {}
        for n, text in enumerate(lines, 1):
            said = text.partition("#")[0].strip()
            if not said:
                continue
            match = _LINE.fullmatch(said)
            # As `openssl x509 -fingerprint -sha256` prints it, too.
            hexadecimal = match["digest"].replace(":", "").lower() if match else ""
            if match is None or not re.fullmatch("[0-9a-f]{64}", hexadecimal):
                raise Unusable(f"line {n}: should be `<code> {TOKEN}|{CERTIFICATE} <sha256>`")
            if match["who"] not in agencies:
                raise Unusable(f"line {n}: no such agency in the directory")
            if found.setdefault((match["by"], hexadecimal), match["who"]) != match["who"]:
                raise Unusable(f"line {n}: the same {match['by']} for two agencies")
        return cls(tuple((by, hexadecimal, who) for (by, hexadecimal), who in found.items()))

    def who(self, by: str, secret: bytes) -> str | None:
        """All of them are looked at, each in the same time: how long it takes tells nothing of what is known."""
        shown, found = digest(secret), None
        for kind, known, who in self.known:
            if hmac.compare_digest(shown, known) and kind == by:
                found = who
        return found


class Register:
    """The file of publishers as it is now: who is taken out of it is not let in any more, without a restart."""

    def __init__(self, file: Path, agencies: Collection[str]) -> None:
        self._file, self._agencies = file, agencies
        self._stamp = self._stamped()
        self._publishers = self._read()

    def who(self, authorization: str | None, certificate: bytes | None) -> str | None:
        """The agency that has proven itself. Who shows a token is judged by that alone."""
        publishers = self._now()
        if authorization is not None:
            match = _BEARER.fullmatch(authorization.strip())
            return publishers.who(TOKEN, match[1].encode()) if match else None
        return publishers.who(CERTIFICATE, certificate) if certificate else None

    def _now(self) -> Publishers:
        """What cannot be read now leaves what was: half a file would lock everybody out."""
        stamp = self._stamped()
        if stamp != self._stamp:
            self._stamp = stamp  # first, so that a broken file is told of once
            try:
                self._publishers = self._read()
            except (OSError, ValueError) as error:
                detail = str(error) if isinstance(error, Unusable) else type(error).__name__
                log.error("publishers not readable, the former stay", extra={"detail": detail})
            else:
                log.info("publishers read again", extra={"messages": len(self._publishers.known)})
        return self._publishers

    def _stamped(self) -> tuple[int, int, int] | None:
        """Of the file that a link leads to: a mounted Secret is exchanged by its link."""
        try:
            found = self._file.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size

    def _read(self) -> Publishers:
        return Publishers.read(self._file.read_text(encoding="utf-8").splitlines(), self._agencies)
