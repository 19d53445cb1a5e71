"""Who is told that a letter did not arrive, and in which words: undelivered is not notified.

What came back and what it means is in `bounces.py`; the wording is in `letters/undelivered`.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from services.notify.hours import when_of
from services.notify.owed import OPERATORS, Owed
from services.notify.quotes import party, plain
from shared.notices.directory import Directory

LETTER = "undelivered"
SUPPRESSED = "address is suppressed"
STATUS = re.compile(r"\b[245]\.(\d{1,3})\.\d{1,3}\b")
REASONS = {
    "1": "收件地址不存在或已停用",
    "2": "对方邮箱不能收信（已满或已停用）",
    "3": "对方邮件系统不能收这封信",
    "4": "多次投递，对方邮件系统一直没有接收",
    "7": "对方邮件系统拒收",
}
"""By the second part of a status (RFC 3463). What the server said itself may name people."""
COPIED = ("notice", "number", "issuer", "unit", "case", "due", "clauses")
"""What this letter repeats of the one that did not arrive."""


@dataclass(frozen=True, slots=True)
class Undelivered:
    """`why` is what a server said, with or without a status; `stopped` when nothing more is sent to the address."""

    owed: Owed
    why: str | None
    stopped: bool = False


def letters(
    failed: Sequence[Undelivered],
    directory: Directory,
    operators: Sequence[str],
    suppressed: Collection[str] = (),
) -> Iterator[Owed]:
    """To the owner of each or, where the owner cannot be written to, to whoever operates us. A letter that nobody
    owns, as this one, leaves its line in the ledger only."""
    for one in failed:
        if one.owed.owner is None or not one.owed.params:
            continue
        owner = party(one.owed.owner, directory)
        if _reachable(owner.email, one.owed, suppressed):
            yield _letter(one, owner.code, owner.name, owner.email)
            continue
        found = [a for a in operators if _reachable(a, one.owed, suppressed)]
        for address in found:
            yield _letter(one, OPERATORS, "运维人员", address)
        if not found:
            # Nobody to tell: a line in the ledger, where the operators look for what failed.
            yield _letter(one, owner.code, owner.name, None)


def addresses(failed: Sequence[Undelivered], directory: Directory, operators: Sequence[str]) -> Iterator[str]:
    """Whom it may come to: of these it must be known whether they are suppressed."""
    yield from operators
    for one in failed:
        if one.owed.owner and (email := party(one.owed.owner, directory).email):
            yield email


def _reachable(address: str | None, failed: Owed, suppressed: Collection[str]) -> bool:
    return bool(
        address and address.lower() not in suppressed and address.lower() != (failed.address or "").lower()
    )


def _letter(failed: Undelivered, to: str, to_name: str, address: str | None) -> Owed:
    owed = failed.owed
    params = {
        **plain("", None, "", "", "系统运维人员" if to != OPERATORS else owed.to_name),
        **{key: owed.params[key] for key in COPIED if key in owed.params},
        "what": owed.params.get("name") or ("待办提醒" if owed.letter == "digest" else ""),
        "recipient": owed.to_name,
        "why": in_words(failed.why),
        "stopped": failed.stopped,
    }
    key = f"undelivered/{owed.mail}/{to if to != 'operators' else address}"
    return Owed(
        key, LETTER, to, to_name, address, params, owed.case, when=when_of(LETTER, params), parties=(to,)
    )


def in_words(why: str | None) -> str:
    if why == SUPPRESSED:
        return "此前发往该地址的邮件已被退回"
    found = STATUS.search(why or "")
    return f"{REASONS.get(found[1], '对方邮件系统拒收')}（{found[0]}）" if found else "对方邮件系统拒收"
