"""Who is written to: the contact persons whose post a letter is for, and nobody of another district.

What a letter says is in `owed.py`; how contact persons change is in `contacts.py`, the ledger in `store.py`.
"""

from collections.abc import Collection, Iterable, Mapping
from copy import copy
from dataclasses import dataclass, replace
from datetime import date

from services.notify.address import reach
from services.notify.owed import OPERATORS, Owed, Recipient
from shared.contracts.types import Post
from shared.notices.directory import Agency, Directory

FOREIGN, NO_PARTY, NOBODY = "foreign address", "not a party of the case", "no address"
"""Why a letter enters the ledger as failed: somebody must look at it, and it is never sent."""

FILES: tuple[Post, ...] = ("filing",)
ACTS: tuple[Post, ...] = ("review",)
HEAD: tuple[Post, ...] = ("lead", "filing")
POSTS: Mapping[str, tuple[Post, ...]] = {
    "accepted": FILES,
    "action_wanted": ACTS,
    "deadline": FILES,
    "duty_due": FILES,
    "duty_missed": HEAD,
    "expiring": HEAD,
    "ground_raised": ACTS,
    "hearing": HEAD,
    "judged": FILES,
    "june_activity": FILES,
    "kept": HEAD,
    "misdirected": FILES,
    "not_selected": FILES,
    "proposed": FILES,
    "published": FILES,
    "recommend_wanted": ACTS,
    "refused": FILES,
    "rejected": FILES,
    "renewed": HEAD,
    "report_received": FILES,
    "returned": FILES,
    "revocation_proposed": HEAD,
    "revoked": HEAD,
    "selected": FILES,
    "undelivered": ACTS,
}
"""Whose post a letter is for (ours: no source says it). One that is not listed goes to who files."""


@dataclass(frozen=True, slots=True)
class Person:
    """A contact person as it stands: as the directory lists it (version 0), or as the last change said. `place` is the
    district of its agency; of an applicant that is not listed nobody knows it."""

    agency: str
    code: str
    posts: tuple[str, ...]
    address: str | None
    since: date | None = None
    until: date | None = None
    active: bool = True
    version: int = 0
    place: str | None = None

    def serves(self, day: date) -> bool:
        begun = self.since is None or self.since <= day
        return self.address is not None and begun and self.known(day)

    def known(self, day: date) -> bool:
        """Also whose term has not begun: the address is that of this agency and of no other."""
        return self.active and (self.until is None or self.until >= day)


class _Index:
    """Contact persons by agency and code, and by address."""

    def __init__(self, people: Iterable[Person]) -> None:
        self.of: dict[str, dict[str, Person]] = {}
        self.at: dict[str, list[Person]] = {}
        for person in people:
            self.of.setdefault(person.agency, {})[person.code] = person
            if person.address:
                self.at.setdefault(person.address, []).append(person)


class People:
    """The contact persons of the directory, with the changes of those that are looked at."""

    def __init__(self, directory: Directory, changed: Iterable[Person] = ()) -> None:
        self.directory = directory
        self._listed = _Index(
            Person(a.code, c.code, c.posts, reach(c.email), c.since, c.until, c.active, place=a.place)
            for a in directory.agencies
            for c in a.contacts
        )
        self._general: dict[str, list[Agency]] = {}
        for agency in directory.agencies:
            if agency.email:
                self._general.setdefault(reach(agency.email), []).append(agency)
        self._changed = _Index(changed)

    def now(self, changed: Iterable[Person]) -> "People":
        """The same directory, which is not read again, with other changes."""
        people = copy(self)
        people._changed = _Index(changed)
        return people

    def find(self, agency: str, code: str) -> Person | None:
        return self._changed.of.get(agency, {}).get(code) or self._listed.of.get(agency, {}).get(code)

    def of(self, agency: str) -> list[Person]:
        found = {**self._listed.of.get(agency, {}), **self._changed.of.get(agency, {})}
        return [found[code] for code in sorted(found)]

    def _at(self, address: str) -> list[Person]:
        listed = [p for p in self._listed.at.get(address, ()) if self.find(p.agency, p.code) is p]
        return listed + self._changed.at.get(address, [])

    def has(self, agency: str, address: str, day: date) -> bool:
        """Whether this is an address of the agency, or of one of its people."""
        same = reach(address)
        mine = any(p.agency == agency and p.known(day) for p in self._at(same))
        return mine or any(a.code == agency for a in self._general.get(same, ()))

    def left(self, agency: str, address: str, day: date) -> bool:
        """Whether this was the address of a person of this agency, and is no more."""
        was = any(p.agency == agency for p in self._at(reach(address)))
        return was and not self.has(agency, address, day)

    def owners(self, address: str, day: date) -> set[tuple[str, str]]:
        """The listed agencies whose address this is, each with its district. Who is not listed has none that we know
        of, and may share an address with whom it files for."""
        same = reach(address)
        found = {(p.agency, p.place) for p in self._at(same) if p.place and p.known(day)}
        return found | {(a.code, a.place) for a in self._general.get(same, ())}

    def foreign(self, address: str, agency: str, place: str | None, day: date) -> bool:
        """Whether it belongs to others only, and all of them are of another district."""
        owners = self.owners(address, day)
        return bool(owners) and not any(code == agency or where == place for code, where in owners)


def addressed(letters: Iterable[Owed], people: People, day: date) -> list[Owed]:
    """The letters as they enter the ledger: one to each person whose post it is for, on the day on which it is owed.

    This is the one door: what may not be sent to its recipient goes through it without an address.
    """
    return [_guarded(one, people, day) for letter in letters for one in _each(letter, people, day)]


def _each(letter: Owed, people: People, day: date) -> list[Owed]:
    if letter.to == OPERATORS:
        return [letter]
    if letter.case is not None and letter.to not in letter.parties:
        return [_plain(letter, people, day)]
    return chosen(letter, people, day)


def chosen(letter: Owed, people: People, day: date) -> list[Owed]:
    """Who files says whom to ask about this filing, so that address stands for the agency's contact for filings, until
    the agency ends it. Without anybody in a post, a letter goes to the agency's general address."""
    known = people.directory.find(letter.to)
    general = known.email if known else None
    wanted = POSTS.get(letter.letter, FILES)
    filed = letter.address
    if filed is None or (general and reach(filed) == reach(general)) or people.left(letter.to, filed, day):
        filed = None
    here = [p for p in people.of(letter.to) if p.serves(day)]
    asked = filed is not None and "filing" in wanted
    found = _in(here, [post for post in wanted if not (asked and post == "filing")])
    if not found and filed is None and general is None:
        found = here  # better somebody of the agency than nobody
    made = [_plain(letter, people, day, filed or general)] if asked or not found else []
    reached = {reach(one.address) for one in made if one.address}
    for person in found:
        assert person.address  # who serves has one
        if person.address not in reached:
            reached.add(person.address)
            made.append(_to(letter, people, person, day))
    return made


def instead(
    letter: str, to: str, people: People, day: date, taken: Collection[str]
) -> tuple[str | None, str] | None:
    """Who gets a letter that waits for somebody who is no more: the code and the address of a person in the same post,
    or the agency's general address; nobody, if those have it already (`taken`)."""
    known = people.directory.find(to)
    here = [p for p in people.of(to) if p.serves(day)]
    first = _in(here, POSTS.get(letter, FILES))
    general = known.email if known else None
    rest = [(p.code, p.address or "") for p in here]
    found: list[tuple[str | None, str]] = [(p.code, p.address or "") for p in first]
    found += [(None, general)] if general else rest
    return next((one for one in found if reach(one[1]) not in taken), None)


def _in(people: Iterable[Person], posts: Collection[str]) -> list[Person]:
    return [p for p in people if set(p.posts) & set(posts)]


def place_of(letter: Owed, directory: Directory) -> str | None:
    """The district of the recipient; of one that is not listed, that in which it filed."""
    known = directory.find(letter.to)
    return known.place if known else letter.district


def _plain(letter: Owed, people: People, day: date, address: str | None = None) -> Owed:
    """To the agency itself, under the key that it had before there were contact persons."""
    to = Recipient(None, letter.key, place_of(letter, people.directory), day)
    return replace(letter, address=address, recipient=to)


def _to(letter: Owed, people: People, person: Person, day: date) -> Owed:
    to = Recipient(person.code, letter.key, place_of(letter, people.directory), day)
    return replace(letter, key=f"{letter.key}/{person.code}", address=person.address, recipient=to)


def _guarded(letter: Owed, people: People, day: date) -> Owed:
    if letter.to == OPERATORS or letter.recipient is None:
        return letter
    why = None
    if letter.case is not None and letter.to not in letter.parties:
        why = NO_PARTY
    elif letter.address is None:
        why = NOBODY
    elif people.foreign(letter.address, letter.to, letter.recipient.place, day):
        why = FOREIGN
    return replace(letter, address=None, recipient=replace(letter.recipient, why=why)) if why else letter
