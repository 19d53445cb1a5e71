"""The dates that a letter tells its reader to keep, as calendar files (RFC 5545, published and cancelled by RFC 5546).

Which dates those are is in `cases.py` and `owed.py`, made by `keep` and `settled` of `quotes.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from email.headerregistry import Address
from typing import Any, Literal

from icalendar import Alarm, Calendar, Event, vCalAddress, vText

from services.notify.owed import Owed
from services.notify.words import due, hour
from shared.contracts.envelope import derived_id
from shared.notices.calendar import SHANGHAI

PRODID = "-//Yiqi//Letters//ZH"
ONE_DAY = timedelta(days=1)
ALARM = timedelta(hours=-15)
"""Before the midnight that the day begins with: 9 o'clock of the day before, while there is a day left."""
EPOCH = int(datetime(2020, 1, 1, tzinfo=UTC).timestamp())
NAMES = {"PUBLISH": "期限.ics", "CANCEL": "取消期限.ics"}


@dataclass(frozen=True, slots=True)
class File:
    name: str
    method: Literal["PUBLISH", "CANCEL"]
    content: bytes

    @property
    def ahead(self) -> bool:
        return self.method == "PUBLISH"


def files(owed: Owed, params: Mapping[str, Any], at: datetime, sender: Address, domain: str) -> list[File]:
    """At most two: a file has one method. A day that is over when the letter is written is not worth an entry."""
    today = at.astimezone(SHANGHAI).date()
    entries = params.get("dates", ())
    ahead = [e for e in entries if e["date"] and date.fromisoformat(e["date"]) >= today]
    over = [e for e in entries if not e["date"]]
    found = []
    for method, chosen in (("PUBLISH", ahead), ("CANCEL", over)):
        if chosen:
            whole = Calendar()
            whole.add("prodid", PRODID)
            whole.add("version", "2.0")
            whole.add("method", method)
            for entry in chosen:
                whole.add_component(_event(owed, params, entry, at, sender, domain))
            found.append(File(NAMES[method], "PUBLISH" if method == "PUBLISH" else "CANCEL", whole.to_ical()))
    return found


def _event(
    owed: Owed,
    params: Mapping[str, Any],
    entry: Mapping[str, Any],
    at: datetime,
    sender: Address,
    domain: str,
) -> Event:
    event = Event()
    # One entry for each reader: what is settled for one may not be for another.
    event.add("uid", f"{derived_id('date', entry['about'], owed.to)}@{domain}")
    event.add("dtstamp", at.astimezone(UTC).replace(microsecond=0))
    # Time always grows, also when a date is moved to an earlier day; from 2020 on, it stays within 32 bits till 2088.
    event.add("sequence", max(0, entry.get("said", int(at.timestamp())) - EPOCH))
    organizer = vCalAddress(f"mailto:{sender.addr_spec}")
    organizer.params["CN"] = vText(sender.display_name)
    event.add("organizer", organizer)
    event.add("transp", "TRANSPARENT")
    if entry["date"] is None:
        event.add("summary", f"已取消：{entry['what']}")
        event.add("status", "CANCELLED")
        return event
    last = date.fromisoformat(entry["date"])
    # A printed hour belongs to what has to be done; the entry stays one of the whole day.
    event.add("summary", entry["what"] + (f"（{hour(entry['at'])}前）" if entry["at"] else ""))
    event.add("dtstart", date.fromisoformat(entry["from"]) if entry["from"] else last)
    event.add("dtend", last + ONE_DAY)
    event.add("status", "CONFIRMED")
    event.add("description", _description(params, entry))
    alarm = Alarm()
    alarm.add("action", "DISPLAY")
    alarm.add("description", entry["what"])
    alarm.add("trigger", ALARM)
    event.add_component(alarm)
    return event


def _description(params: Mapping[str, Any], entry: Mapping[str, Any]) -> str:
    told = {**params, **entry}
    said = [f"事由：{told['notice']}", f"如有疑问，请联系{told['ask']}。"]
    if params["due"] and params["due"]["date"] == entry["date"]:
        said.insert(0, f"期限：{due(params['due'])}")
    return "\n".join(said)
