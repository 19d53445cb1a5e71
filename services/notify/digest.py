"""The mail of the morning: what an agency is reminded of, as one letter sorted by date.

When it goes is in `hours.py`, the ledger's part in `pending.py`, its wording in `letters/digest`.
"""

from collections.abc import Iterator, Sequence
from datetime import date
from hashlib import sha256
from typing import Any
from uuid import UUID

from services.notify.owed import Owed
from services.notify.quotes import plain
from shared.contracts.envelope import derived_id

MOST = 100
"""Reminders in one letter; more go in a second, so that none is left out."""


def key(day: date, to: str, address: str, part: int = 0) -> str:
    """One a day for each agency and address, whoever makes it and however often. No address in a key: those are read
    by who may not see contacts."""
    return f"digest/{day}/{to}/{sha256(address.encode()).hexdigest()[:12]}/{part}"


def mail_of(key: str) -> UUID:
    """As `Owed.mail` has it."""
    return UUID(derived_id("mail", key))


def digests(day: date, letters: Sequence[Owed]) -> Iterator[tuple[Owed, Sequence[Owed]]]:
    """The letters of one agency and address as one, or as few as hold them; each with those that it tells."""
    ordered = sorted(letters, key=lambda o: (o.params["due"]["date"], o.key))
    for part, start in enumerate(range(0, len(ordered), MOST)):
        some = ordered[start : start + MOST]
        first = some[0]
        one = {name: _common(some, name) for name in ("issuer", "unit", "ask", "notice_id")}
        params = {
            **plain("待办提醒", None, one["issuer"] or first.params["issuer"], one["unit"], one["ask"]),
            "notice_id": one["notice_id"],
            # As each letter would have had it, with the notice that it is about.
            "dates": [
                {**d, "notice": o.params["notice"], "ask": o.params["ask"]}
                for o in some
                for d in o.params.get("dates", ())
            ],
            "items": [{"letter": o.letter, "to_name": o.to_name, "params": o.params} for o in some],
        }
        if not one["ask"]:
            params["ask"] = "各项所列单位"
        name = key(day, first.to, first.address or "", part)
        yield (
            Owed(
                name,
                "digest",
                first.to,
                first.to_name,
                first.address,
                params,
                when="hours",
                owner=next((o.owner for o in some if o.owner), None),
            ),
            some,
        )


def _common(letters: Sequence[Owed], name: str) -> Any:
    """What all of them say, or nothing."""
    found = {o.params.get(name, "") for o in letters}
    return found.pop() if len(found) == 1 else ""
