"""The directory of agencies: who files, decides and is written to, and under which code.

Who may act for an agency, and on what, is not here: accounts and permissions belong to the services.
"""

import json
import re
import unicodedata
from collections.abc import Collection, Sequence
from datetime import date
from difflib import get_close_matches
from functools import cached_property
from hashlib import sha256
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from shared.contracts.types import Kind, Post, Short, Token

NAME_LIMIT = 200
APPLICANT = re.compile(r"\s*K6\s*[:：](.*)", re.DOTALL)

District = Annotated[str, StringConstraints(pattern=r"^\d{6}$")]
# Loose on purpose: full validation refuses the reserved domains that demonstrations should use.
Mailbox = Annotated[str, StringConstraints(pattern=r"^[^@\s,;<>]+@[^@\s,;<>]+\.[^@\s,;<>]+$", max_length=254)]

EXPECTED = {
    "code": "由小写字母、数字、- 和 _ 组成的字符串（数字须加引号）",
    "kind": "K1–K6 或 city",
    "district": "加引号的六位区划代码",
    "email": "一个电子邮箱",
    "aliases": "字符串的列表",
    "phones": "加引号的号码的列表",
    "contacts": "联系人的列表，每人有 code、posts（filing、review、lead）、email，可有 since、until、active",
    "listens": "true 或 false",
    "officers": "经办人代码（如 440106-03）的列表，不写姓名",
    "valid_as_of": "日期，如 2019-05-24",
    "derived": "true 或 false",
}


class DirectoryError(ValueError):
    """Directory data that cannot be used; the message names file and line, and what is wrong in Chinese."""


class UnknownAgency(LookupError):
    """Nobody in the directory answers to this; the message, in Chinese, offers what comes near."""


class ContactPerson(BaseModel):
    """One person of an agency, by a code and never by name; in office from `since` to `until`, both included. Changes
    are published (`contact.changed`), and the last of them stands instead of what is listed here."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: Token
    posts: Annotated[tuple[Post, ...], Field(min_length=1)]
    email: Mailbox
    since: date | None = None
    until: date | None = None
    active: bool = True


class Agency(BaseModel):
    """One body as the notices know it; `derived` if something in the record is our own reading."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: Token
    kind: Kind
    name: Short
    short: Short
    unit: Short | None = None
    aliases: tuple[Short, ...] = ()
    district: District | None = None
    email: Mailbox | None = None
    phones: tuple[Short, ...] = ()
    officers: tuple[Token, ...] = ()
    """Codes of those who may decide for it, never names; of an agency that lists none, any code is taken."""
    contacts: tuple[ContactPerson, ...] = ()
    """Who is written to; `email` is where everything goes that none of them is there for."""
    listens: bool = False
    """Its own system hears what becomes of its cases (`case.moved`); of one that has none it would fill the bus."""
    address: Short | None = None
    valid_as_of: date | None = None
    source: Short
    derived: bool = False

    @property
    def place(self) -> str:
        """The district whose people it may be written to by; of a body without one, itself."""
        return self.district or self.code

    def names(self) -> set[str]:
        """All that it answers to, normalised for comparison."""
        return {normal(name) for name in (self.code, self.name, self.short, *self.aliases)}


class Directory(BaseModel):
    """Every agency, the districts in the order in which they are printed."""

    model_config = ConfigDict(frozen=True)

    agencies: tuple[Agency, ...]

    @classmethod
    def load(cls, extra: Path | None = None) -> Self:
        """The packaged agencies; a mounted file or folder of files adds some, or replaces them by code."""
        files = [resources.files(__package__) / "data" / "agencies.yaml", *_mounted(extra)]
        entries: dict[str, _Entry] = {}
        for file in files:
            entries |= _read(file)
        _check(entries.values())
        return cls(agencies=tuple(entry.agency for entry in entries.values()))

    def find(self, code: str) -> Agency | None:
        return self.by_code.get(code)

    def of_kind(self, kind: Kind) -> tuple[Agency, ...]:
        return tuple(agency for agency in self.agencies if agency.kind == kind)

    def resolve(self, text: str) -> Agency:
        """The agency with this code or name; `K6:名称` is an applicant that need not be listed.

        A listed body stays what it is listed as, also behind `K6:`, so that nobody files under two codes.
        """
        applicant = APPLICANT.fullmatch(text)
        name = applicant[1] if applicant else text
        known = self.by_name.get(normal(name))
        if known:
            return known
        if applicant:
            return unlisted(name)
        raise UnknownAgency(self._nearest(text[:NAME_LIMIT]))

    def may_sign(self, code: str, officer: str | None) -> bool:
        """Whether an agency's decision may name this officer: one of its own, where it has listed them."""
        known = self.by_code.get(code)
        own = known.officers if known else ()
        return officer is None or (officer in own if own else officer not in self.officers)

    @cached_property
    def officers(self) -> dict[str, str]:
        """The agency of every officer that is listed."""
        return {officer: agency.code for agency in self.agencies for officer in agency.officers}

    @cached_property
    def by_code(self) -> dict[str, Agency]:
        return {agency.code: agency for agency in self.agencies}

    @cached_property
    def by_name(self) -> dict[str, Agency]:
        return {name: agency for agency in self.agencies for name in agency.names()}

    def _nearest(self, text: str) -> str:
        near = get_close_matches(normal(text), sorted(self.by_name), n=3, cutoff=0.5)
        agencies = dict.fromkeys(self.by_name[name] for name in near)
        if not agencies:
            return f"名录中没有“{text}”；自荐的服务机构请写作“K6:机构名称”"
        listed = "、".join(f"{agency.name}（{agency.code}）" for agency in agencies)
        return f"名录中没有“{text}”；相近的有：{listed}"


def normal(name: str) -> str:
    """Names are compared without regard to width and blanks; what is printed keeps its own form."""
    return "".join(unicodedata.normalize("NFKC", name).split())


def unlisted(text: str) -> Agency:
    name = " ".join(text.split())
    # An invisible character would give the same printed name a second code, and with it a second quota.
    if not 0 < len(name) <= NAME_LIMIT or not name.isprintable():
        raise UnknownAgency(f"自荐机构的名称应为1至{NAME_LIMIT}个可见字符")
    code = "k6-" + sha256(normal(name).encode()).hexdigest()[:16]
    return Agency(code=code, kind="K6", name=name, short=name, source="自荐（征集通知·二·3）", derived=True)


class _Entry(NamedTuple):
    agency: Agency
    where: str


def _mounted(extra: Path | None) -> Sequence[Path]:
    if extra is None:
        return ()
    return sorted(extra.glob("*.y*ml")) if extra.is_dir() else (extra,)


def _read(file: Traversable) -> dict[str, _Entry]:
    try:
        rows = YAML().load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise DirectoryError(f"{file.name}：无法读取（{error.strerror}）") from error
    except MarkedYAMLError as error:
        where = _at(file, error.problem_mark.line) if error.problem_mark else file.name
        raise DirectoryError(f"{where}：不是有效的 YAML（{error.problem}）") from error
    except (UnicodeDecodeError, YAMLError) as error:
        raise DirectoryError(f"{file.name}：不是 UTF-8 文本（{error}）") from error
    if not isinstance(rows, CommentedSeq):
        raise DirectoryError(f"{_at(file, 0)}：应为机构的列表")
    entries: dict[str, _Entry] = {}
    for index, row in enumerate(rows):
        where = _at(file, rows.lc.item(index)[0])
        if not isinstance(row, CommentedMap):
            raise DirectoryError(f"{where}：应为一个机构，实为 {_shown(row)}")
        try:
            agency = Agency.model_validate(row)
        except ValidationError as error:
            # Without its cause, which quotes everything: also what may be a person's address.
            raise DirectoryError(_explain(file, row, error.errors()[0])) from None
        if agency.code in entries:
            raise DirectoryError(f"{where}：code {agency.code} 重复，已见于{entries[agency.code].where}")
        entries[agency.code] = _Entry(agency, where)
    return entries


def _check(entries: Collection[_Entry]) -> None:
    """What no record can tell alone: names and officers lead to one agency, addresses to one district, every district
    has its department."""
    districts = {agency.code for agency, _ in entries if agency.kind == "K2"}
    owners: dict[str, str] = {}
    officers: dict[str, str] = {}
    reached: dict[str, tuple[str, str]] = {}
    for agency, where in entries:
        if agency.kind == "K2" and agency.district is None:
            raise DirectoryError(f"{where}：K2 须填 district")
        if agency.district is not None and agency.district not in districts:
            raise DirectoryError(f"{where}：district {agency.district} 不是名录中的区")
        for officer in agency.officers:
            if officer in officers:
                raise DirectoryError(f"{where}：经办人 {officer} 重复，已见于{officers[officer]}")
            officers[officer] = where
        people: set[str] = set()
        for person in agency.contacts:
            if person.code in people:
                raise DirectoryError(f"{where}：联系人 {person.code} 重复")
            if person.since and person.until and person.until < person.since:
                raise DirectoryError(f"{where}：联系人 {person.code} 的 until 早于 since")
            people.add(person.code)
        for address in filter(None, (agency.email, *(person.email for person in agency.contacts))):
            place, elsewhere = reached.setdefault(address.lower(), (agency.place, where))
            if place != agency.place:
                # The address itself is not repeated: it may be a person's.
                raise DirectoryError(f"{where}：有一个邮箱已用于其他区的单位，见{elsewhere}")
        for name in sorted(agency.names()):
            if name in owners:
                raise DirectoryError(f"{where}：名称 {name} 重复，已见于{owners[name]}")
            owners[name] = where


def _explain(file: Traversable, row: CommentedMap, error: ErrorDetails) -> str:
    field = str(error["loc"][0])
    lines: dict[str, Sequence[int]] = row.lc.data or {}
    where = _at(file, lines[field][0] if field in lines else row.lc.line)
    match error["type"]:
        case "missing":
            return f"{where}：缺少 {field}"
        case "extra_forbidden" | "invalid_key":
            return f"{where}：没有 {field} 这一项"
        case _:
            wanted = EXPECTED.get(field, "非空的字符串")
            if field == "contacts":
                return f"{where}：{field} 应为 {wanted}"  # what stands there may be a person's address
            return f"{where}：{field} 应为 {wanted}，实为 {_shown(error['input'])}"


def _at(file: Traversable, line: int) -> str:
    return f"{file.name} 第{line + 1}行"


def _shown(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
