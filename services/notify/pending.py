"""The ledger before a mail is queued: reminders that wait for the mail of the morning, and mails that are held.

When a morning is, is in `hours.py`; what its mail says, in `digest.py`; the rest of the ledger in `store.py`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any
from uuid import UUID

from services.notify import digest
from services.notify.hours import Hours, alone
from services.notify.owed import Owed
from services.notify.store import Gate, as_owed
from shared.contracts.mail import MailsSettled
from shared.notices.calendar import SHANGHAI
from shared.runtime.database import Connection, put

# --- the mail of the morning --------------------------------------------------------------------------


async def any_gathered(conn: Connection, until: datetime) -> bool:
    """Whether some have come; without a lock, because nearly always none have. Not while another process is still
    recalling what is due by then: it belongs to the same mail."""
    sql = (
        "select 1 from notify.mail where state = 'gathered' and not_before <= :until "
        "and not exists (select 1 from notify.waiting where next_at <= :until) limit 1"
    )
    return bool(await conn.read(sql, {"until": until}))


async def merge(conn: Connection, until: datetime, hours: Hours) -> int:
    """What has come by `until`, as one mail for each agency; how many mails there are now to send. All in the
    transaction of `conn`, one at a time: after a crash nothing has happened, and another process finds nothing left.

    An agency that has had its mail today gets the rest with the next one, so long as that is early enough.
    """
    if hours.between and hours.morning(until) > until:
        return 0  # a rest day, or after the hours: an outage has lasted over the morning
    await conn.execute("select pg_advisory_xact_lock(hashtext('yiqi-notify-digest'))")
    rows = await conn.execute(
        "select * from notify.mail where state = 'gathered' and not_before <= :until order by to_code, address, key",
        {"until": until},
    )
    day, made = until.astimezone(SHANGHAI).date(), 0
    for (to, address), found in groupby((as_owed(r) for r in rows), lambda o: (o.to, o.address or "")):
        letters = list(found)
        first = digest.mail_of(digest.key(day, to, address))
        had = await conn.execute(
            "select 1 from notify.mail where digest = :digest limit 1", {"digest": first}
        )
        if had:
            made += await _put_off(conn, letters, until, hours)
        elif len(letters) == 1:
            await _become(conn, letters, "queued", until, first)
            made += 1
        else:
            for one, told in digest.digests(day, letters):
                await put(conn, "notify.mail", [_row(one, until)])
                await _become(conn, told, "merged", until, one.mail)
                made += 1
    return made


async def _put_off(conn: Connection, letters: Sequence[Owed], now: datetime, hours: Hours) -> int:
    then = hours.next_morning(now)
    urgent = [o for o in letters if alone(o.params.get("due"), now, then)]
    await _become(conn, urgent, "queued", now, None)
    late = [o.mail for o in letters if o not in urgent]
    await conn.execute(
        "update notify.mail set not_before = :then where id = any(:ids)", {"then": then, "ids": late}
    )
    return len(urgent)


async def _become(
    conn: Connection, letters: Sequence[Owed], state: str, now: datetime, mail: UUID | None
) -> None:
    await conn.execute(
        "update notify.mail set state = cast(:state as text), digest = :mail, not_before = cast(:now as timestamptz), "
        "settled_at = case when cast(:state as text) = 'merged' then cast(:now as timestamptz) end where id = any(:ids)",
        {"state": state, "mail": mail, "now": now, "ids": [o.mail for o in letters]},
    )


def _row(one: Owed, now: datetime) -> dict[str, Any]:
    return {
        "id": one.mail,
        "key": one.key,
        "letter": one.letter,
        "to_code": one.to,
        "to_name": one.to_name,
        "address": one.address,
        "params": one.params,
        "attachments": [],
        "state": "queued",
        "attempt": 0,
        "not_before": now,
        "owed_at": now,
        "notice": one.notice,
        "when": one.when,
        "handled": [],
        "owner": one.owner,
    }


# --- held ---------------------------------------------------------------------------------------------

BECOMES = {"discard": "discarded", "edit": "held"}


@dataclass(frozen=True)
class Settled:
    done: tuple[UUID, ...]
    missing: tuple[UUID, ...]
    """Named, and not held: unknown, of another notice, or settled before."""


async def settle(
    conn: Connection, said: MailsSettled, publisher: str, cause: str, gate: Gate, now: datetime
) -> Settled:
    """Release, discard or edit what is held, and keep who did. What is not held any more is not touched."""
    rows = await conn.execute(
        "select id, \"when\", params -> 'due' as due, attachments from notify.mail "
        "where state = 'held' and notice = :notice and (cast(:letter as text) is null or letter = :letter) "
        "and (cast(:all as boolean) or id = any(:mails)) order by id for update",
        {
            "notice": said.notice,
            "letter": said.letter,
            "all": not said.mails,
            "mails": list(said.mails),
        },
    )
    found = [(row.id, *_after(said.action, row, gate, now)) for row in rows]
    act = {
        "at": now.isoformat(),
        "action": said.action,
        "by": publisher,
        "officer": said.officer,
        "reason": said.reason,
        "event": cause,
    }
    note = {"note": said.text} if said.action == "edit" else {}
    await conn.execute(
        "update notify.mail m set state = new.state, not_before = new.not_before, params = m.params || cast(:note as jsonb), "
        "handled = m.handled || cast(:act as jsonb), "
        "settled_at = case when new.state = 'discarded' then cast(:now as timestamptz) end "
        "from unnest(cast(:ids as uuid[]), cast(:states as text[]), cast(:moments as timestamptz[])) "
        "as new (id, state, not_before) where m.id = new.id",
        {
            "note": json.dumps(note, ensure_ascii=False),
            "act": json.dumps([act], ensure_ascii=False),
            "now": now,
            "ids": [id_ for id_, _, _ in found],
            "states": [state for _, state, _ in found],
            "moments": [moment for _, _, moment in found],
        },
    )
    done = tuple(id_ for id_, _, _ in found)
    return Settled(done, tuple(id_ for id_ in said.mails if id_ not in done))


def _after(action: str, row: Mapping[str, Any], gate: Gate, now: datetime) -> tuple[str, datetime]:
    if action != "release":
        return BECOMES[action], now
    return gate.leave(row["when"], None if row["attachments"] else row["due"], now)
