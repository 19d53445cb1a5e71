"""Who gets a letter, and that nobody of another district ever does; without a server."""

import ast
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from traceback import format_exception
from typing import Any
from uuid import UUID

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from services.notify import recipients
from services.notify.address import reach
from services.notify.owed import OPERATORS, Owed
from services.notify.recipients import FOREIGN, NO_PARTY, NOBODY, POSTS, People, Person, addressed
from services.notify.templates import LETTERS
from shared.notices.directory import Directory, DirectoryError

DAY = date(2025, 3, 3)
YESTERDAY, TOMORROW = DAY - timedelta(1), DAY + timedelta(1)
CASE = UUID("6f1ad64e-6a3b-5d0f-9d0c-1e5b2c7a4f10")
TIANHE, LIWAN, CITY, APPLICANT = "440106", "440103", "440100", "k6-0123456789abcdef"
GENERAL = "office@tianhe.example"

DISTRICT = """
- code: "{code}"
  kind: K2
  name: 测试区{code}
  short: 测试区{code}
  district: "{code}"
  source: 演示
"""
CONTACTS = """  email: office@tianhe.example
  contacts:
    - {code: filing-1, posts: [filing], email: filing@tianhe.example}
    - {code: review-1, posts: [review], email: review@tianhe.example, until: 2025-03-03}
    - {code: review-2, posts: [review], email: next@tianhe.example, since: 2025-03-04}
    - {code: lead-1, posts: [lead], email: lead@tianhe.example}
"""


def directory(folder: Path, text: str) -> Directory:
    file = folder / "agencies.yaml"
    file.write_text(text)
    return Directory.load(file)


@pytest.fixture
def listed(tmp_path: Path) -> Directory:
    return directory(
        tmp_path,
        DISTRICT.format(code=TIANHE)
        + CONTACTS
        + DISTRICT.format(code=LIWAN)
        + "  email: office@liwan.example\n",
    )


def owed(letter: str, to: str = TIANHE, address: str | None = GENERAL, **more: Any) -> Owed:
    parties = {"parties": (APPLICANT, CITY, TIANHE), "district": TIANHE, **more}
    return Owed(f"case/{CASE}/2/{letter}/{to}", letter, to, "某单位", address, {}, CASE, **parties)


def to(listed: Directory, letter: Owed, *changed: Person, day: date = DAY) -> dict[str, str | None]:
    """What follows the key of the letter, and the address or why there is none."""
    found = addressed([letter], People(listed, changed), day)
    return {
        one.key.removeprefix(letter.key): one.address or (one.recipient.why if one.recipient else None)
        for one in found
    }


def person(code: str, address: str | None, *posts: str, agency: str = TIANHE, **more: Any) -> Person:
    place = None if agency.startswith("k6") else agency
    return Person(agency, code, posts or ("filing",), address, version=1, **{"place": place, **more})


# --- whose post it is ----------------------------------------------------------------------------------


def test_every_letter_is_for_somebodys_post() -> None:
    ours = {"daily", "digest"}  # to operators; of letters that are addressed already
    assert set(LETTERS) - ours == set(POSTS)


def test_a_letter_goes_to_whose_post_it_is_for(listed: Directory) -> None:
    assert to(listed, owed("returned")) == {"/filing-1": "filing@tianhe.example"}
    assert to(listed, owed("recommend_wanted")) == {"/review-1": "review@tianhe.example"}
    assert to(listed, owed("hearing")) == {
        "/filing-1": "filing@tianhe.example",
        "/lead-1": "lead@tianhe.example",
    }
    assert to(listed, owed("no_such_letter")) == {"/filing-1": "filing@tianhe.example"}


def test_who_begins_tomorrow_gets_tomorrows_mail(listed: Directory) -> None:
    letter = owed("recommend_wanted")
    assert to(listed, letter, day=DAY) == {"/review-1": "review@tianhe.example"}
    assert to(listed, letter, day=TOMORROW) == {"/review-2": "next@tianhe.example"}


def test_without_anybody_in_the_post_the_agency_gets_it_under_the_key_of_before(listed: Directory) -> None:
    letter = owed("recommend_wanted")
    gone = (person("review-1", "review@tianhe.example", "review", active=False),)
    assert to(listed, letter, *gone) == {"": GENERAL}
    assert to(listed, owed("returned", LIWAN, None, parties=(LIWAN,))) == {"": "office@liwan.example"}


def test_better_somebody_of_the_agency_than_nobody(listed: Directory) -> None:
    letter = owed("returned", APPLICANT, None)
    lead = person("lead-1", "lead@firm.example", "lead", agency=APPLICANT)
    assert to(listed, letter, lead) == {"/lead-1": "lead@firm.example"}
    assert to(listed, letter) == {"": NOBODY}


def test_the_address_of_the_filing_stands_for_the_contact_for_filings(listed: Directory) -> None:
    clerk = owed("returned", address="clerk@tianhe.example")
    assert to(listed, clerk) == {"": "clerk@tianhe.example"}
    hearing = owed("hearing", address="clerk@tianhe.example")
    assert to(listed, hearing) == {"": "clerk@tianhe.example", "/lead-1": "lead@tianhe.example"}
    # Until the agency ends it.
    left = person("clerk", "clerk@tianhe.example", until=YESTERDAY)
    assert to(listed, clerk, left) == {"/filing-1": "filing@tianhe.example"}
    assert to(listed, clerk, replace(left, until=DAY)) == {"": "clerk@tianhe.example"}


def test_one_mailbox_gets_one_mail(listed: Directory) -> None:
    both = person("lead-1", "filing@tianhe.example", "lead")
    assert to(listed, owed("hearing"), both) == {"/filing-1": "filing@tianhe.example"}
    typed = owed("hearing", address="LEAD@Tianhe.example")
    assert to(listed, typed) == {"": "LEAD@Tianhe.example"}


# --- nobody else ----------------------------------------------------------------------------------------


def test_a_filer_that_types_the_address_of_another_district_is_not_written_to_there(
    listed: Directory,
) -> None:
    for typed in ("office@liwan.example", "OFFICE@LiWan.example"):
        assert to(listed, owed("returned", APPLICANT, typed)) == {"": FOREIGN}
    # That of its own district, or one that nobody knows, is its own affair.
    assert to(listed, owed("returned", APPLICANT, GENERAL)) == {"": GENERAL}
    assert to(listed, owed("returned", APPLICANT, "who@knows.example")) == {"": "who@knows.example"}
    in_liwan = owed("returned", APPLICANT, GENERAL, district=LIWAN)
    assert to(listed, in_liwan) == {"": FOREIGN}


def test_who_is_no_party_of_the_case_is_told_nothing_of_it(listed: Directory) -> None:
    letter = owed("returned", LIWAN, "office@liwan.example")
    assert to(listed, letter) == {"": NO_PARTY}
    assert to(listed, owed("returned", LIWAN, "office@liwan.example", parties=())) == {"": NO_PARTY}


def test_whoever_has_left_is_nobodys_any_more(listed: Directory) -> None:
    letter = owed("returned", APPLICANT, "moved@qq.example")
    there = person("filing-9", "moved@qq.example", agency=LIWAN)
    assert to(listed, letter, there) == {"": FOREIGN}
    assert to(listed, letter, replace(there, until=YESTERDAY)) == {"": "moved@qq.example"}
    assert to(listed, letter, replace(there, since=TOMORROW)) == {"": FOREIGN}
    # An applicant is of no district that we know; one consultant may file for many.
    assert to(listed, letter, person("a", "moved@qq.example", agency="k6-ffffffffffffffff")) == {
        "": "moved@qq.example"
    }


def test_operators_are_no_agency(listed: Directory) -> None:
    daily = Owed(
        "daily/2025-03-03/office@liwan.example", "daily", OPERATORS, "运维", "office@liwan.example", {}
    )
    assert addressed([daily], People(listed), DAY) == [daily]


CODES = (TIANHE, LIWAN, "440105", "inst-a", "inst-b", "jrb", APPLICANT)
PLACES = {"inst-a": TIANHE, "inst-b": LIWAN}
POOL = [f"p{n}@x.example" for n in range(6)]
TERM = st.sampled_from([None, YESTERDAY, DAY, TOMORROW])
POST = st.lists(st.sampled_from(["filing", "review", "lead"]), min_size=1, unique=True)


LISTED = [agency for agency in Directory.load().agencies if agency.code in CODES]


@st.composite
def worlds(draw: Callable[..., Any]) -> tuple[Directory, list[Person], Owed]:
    email = st.sampled_from([None, *POOL])
    agencies = [agency.model_copy(update={"email": draw(email)}) for agency in LISTED]
    for code, place in PLACES.items():
        named = {"code": code, "kind": "K4", "name": code, "short": code, "aliases": ()}
        agencies.append(LISTED[0].model_copy(update={**named, "district": place, "email": draw(email)}))
    known = Directory(agencies=tuple(agencies))
    people = []
    for n in range(draw(st.integers(0, 6))):
        code = draw(st.sampled_from(CODES))
        found = known.find(code)
        people.append(
            Person(code, f"c{n}", tuple(draw(POST)), draw(st.sampled_from([None, *POOL])), draw(TERM),
                   draw(TERM), draw(st.booleans()), 1, found.place if found else None)
        )  # fmt: skip
    district = draw(st.sampled_from(CODES[:3]))
    filer, recipient = draw(st.sampled_from(CODES)), draw(st.sampled_from(CODES))
    letter = owed(
        draw(st.sampled_from(sorted(POSTS))),
        recipient,
        draw(st.sampled_from([None, *POOL, *(p.upper() for p in POOL)])),
        parties=tuple(sorted({filer, district, CITY})),
        district=district,
    )
    return known, people, letter


def whose(known: Directory, people: list[Person], address: str) -> set[tuple[str, str]]:
    """(agency, district), told from the records alone."""
    found = {
        (a.code, a.district or a.code) for a in known.agencies if a.email and reach(a.email) == reach(address)
    }
    for p in people:
        over = p.until is not None and p.until < DAY
        if p.place and p.active and not over and p.address == reach(address):
            found.add((p.agency, p.place))
    return found


def lawful(world: tuple[Directory, list[Person], Owed]) -> None:
    known, people, letter = world
    made = addressed([letter], People(known, people), DAY)
    assert made
    assert len({one.key for one in made}) == len(made)
    home = PLACES.get(letter.to) or (letter.district if letter.to == APPLICANT else letter.to)
    for one in made:
        if one.address is None:
            continue
        assert letter.to in letter.parties
        owners = whose(known, people, one.address)
        assert not owners or any(code == letter.to or place == home for code, place in owners)
        to = one.recipient
        assert to
        if to.contact:
            (found,) = (p for p in people if (p.agency, p.code) == (letter.to, to.contact))
            assert found.active
            assert (found.since or DAY) <= DAY <= (found.until or DAY)
    reached = [reach(one.address) for one in made if one.address]
    assert len(set(reached)) == len(reached)


@settings(max_examples=300, deadline=None)
@given(worlds())
def test_no_mail_goes_to_anybody_of_another_district(world: tuple[Directory, list[Person], Owed]) -> None:
    lawful(world)


def test_control_without_the_guard_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipients, "_guarded", lambda letter, people, day: letter)
    with pytest.raises(AssertionError):
        settings(max_examples=300, deadline=None, phases=[Phase.generate])(given(worlds())(lawful))()


def unchosen(source: str) -> list[str]:
    """What is entered into the ledger without having been through the one door."""
    entered = [
        ast.unparse(node)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "store.owe"
    ]
    return [call for call in entered if "contacts.recipients(" not in call]


def test_nothing_enters_the_ledger_by_another_door() -> None:
    folder = Path(recipients.__file__).parent
    assert {p.name: found for p in folder.glob("*.py") if (found := unchosen(p.read_text()))} == {}
    # The negative control.
    assert unchosen(
        "store.owe(conn, letters)\nstore.owe(conn, await contacts.recipients(conn, a, b, c))"
    ) == ["store.owe(conn, letters)"]


# --- the directory --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CONTACTS.replace("lead-1", "filing-1"), "联系人 filing-1 重复"),
        (
            CONTACTS.replace("until: 2025", "since: 2026-01-01, until: 2025"),
            "联系人 review-1 的 until 早于 since",
        ),
        (CONTACTS.replace("[lead]", "[boss]"), "contacts 应为 联系人的列表"),
        (CONTACTS.replace("lead@tianhe", "lead,tianhe"), "contacts 应为 联系人的列表"),
    ],
)
def test_a_faulty_contact_is_told_without_its_address(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DirectoryError, match=message) as caught:
        directory(tmp_path, DISTRICT.format(code=TIANHE) + text)
    assert "tianhe.example" not in "".join(format_exception(caught.value))


def test_one_address_is_of_one_district(tmp_path: Path) -> None:
    text = DISTRICT.format(code=TIANHE) + CONTACTS + DISTRICT.format(code=LIWAN)
    with pytest.raises(DirectoryError, match="有一个邮箱已用于其他区的单位") as caught:
        directory(tmp_path, text + "  email: Lead@tianhe.example\n")
    assert "tianhe.example" not in str(caught.value)
