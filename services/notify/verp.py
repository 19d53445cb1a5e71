"""Envelope senders that say which mail a bounce is about, and that nobody else can make up.

What a bounce says is in `bounces.py`.
"""

import base64
import hashlib
import hmac
import re
from uuid import UUID

MAC_BYTES = 5
"""Forty bits: whoever guesses has the mail server between himself and every try."""
LOCAL = re.compile(r"b\+([a-z2-7]{26})-([a-z2-7]{8})")


class Forged(ValueError):
    """nobody was ever told this address"""


def address(mail: UUID, domain: str, secret: str) -> str:
    """`b+<id>-<mac>@<domain>`, in letters that survive being written in capitals."""
    return f"b+{_base32(mail.bytes)}-{_mac(mail, secret)}@{domain}"


def mail_of(recipient: str, domain: str, secret: str) -> UUID:
    local, _, where = recipient.lower().rpartition("@")
    found = LOCAL.fullmatch(local)
    if found is None or where != domain.lower():
        raise Forged(Forged.__doc__)
    try:
        mail = UUID(bytes=base64.b32decode(found[1].upper() + "======"))
    except ValueError as error:
        raise Forged(Forged.__doc__) from error
    if not hmac.compare_digest(found[2], _mac(mail, secret)):
        raise Forged(Forged.__doc__)
    return mail


def _mac(mail: UUID, secret: str) -> str:
    return _base32(hmac.new(secret.encode(), b"bounce/" + mail.bytes, hashlib.sha256).digest()[:MAC_BYTES])


def _base32(value: bytes) -> str:
    return base64.b32encode(value).decode().rstrip("=").lower()
