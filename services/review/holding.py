"""Decisions that are held back: the two statements that keep them and let them take effect, or not.

The table is in `store.py`; what a decision does is in `decide.py`.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from shared.runtime.database import Connection, put


async def hold(
    conn: Connection, publisher: str, held: str, key: UUID, at: datetime, decisions: list[dict[str, Any]]
) -> bool:
    """At once, not at the end: the event after this one may settle it. False when another system of the publisher
    has used the id."""
    row = {"publisher": publisher, "held": held, "key": key, "at": at.isoformat(), "decisions": decisions}
    then = "on conflict do nothing returning held"
    return bool(await put(conn, "review.held", [{**row, "state": "held", "reason": ""}], then))


async def settle(
    conn: Connection, publisher: str, held: str, state: str, at: datetime, officer: str | None, reason: str
) -> list[dict[str, Any]] | None:
    """The decisions that were held, once: None when there are none of this publisher, or they are settled."""
    rows = await conn.execute(
        "update review.held set state = :state, settled_at = :at, officer = :officer, reason = :reason "
        "where publisher = :publisher and held = :held and state = 'held' returning decisions",
        {
            "state": state,
            "at": at,
            "officer": officer,
            "reason": reason,
            "publisher": publisher,
            "held": held,
        },
    )
    return rows[0].decisions if rows else None
