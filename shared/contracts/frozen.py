"""The contracts as they were published: files that stay, what has changed since, and whom a change would break.

What a schema says is not here (`schemas.py`), nor is the tool that compares two of them: that is handed in.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from shared.contracts import schemas
from shared.contracts.fields import Field, fields
from shared.contracts.registry import EventType
from shared.contracts.schemas import TEXT, Schema, nodes

FOLDER = Path(__file__).parent / "published"
INDEX = "index.json"

Role = Literal["deserializer", "serializer", "both"]
ROLES: dict[str, Role] = {"in": "deserializer", "out": "serializer", "evt": "both", "audit": "both"}
"""What we do with an event: read what others wrote before (`deserializer`), write what others must still read
(`serializer`), or both, where our own services of two releases run side by side."""

Judge = Callable[[str, str, Role], bool]
"""Old schema, new schema, role: is it compatible? `jsoncompat.check_compat`."""


@dataclass(frozen=True)
class Contract:
    """One schema with a history. `key` is its folder; `make` writes it for a minor version; `affected` says who is hurt
    when it breaks."""

    key: str
    role: Role
    major: int
    make: Callable[[int], Schema]
    affected: str


@dataclass(frozen=True)
class Change:
    """`reworded`: only what people read; it takes the place of the file. All else is a file of its own."""

    contract: Contract
    kind: Literal["new", "reworded", "compatible", "breaking"]
    before: str | None
    version: str
    schema: Schema
    lines: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        return f"{self.contract.key}/{self.version}.json"


def of_type(type_: EventType) -> Contract:
    outside = {"agency": "各单位（agency）", "city": "市级主管部门（city）"}
    says, hears = ("、".join(outside.get(w, w) for w in who) or "无" for who in (type_.says, type_.hears))
    affected = f"发布者：{says}" if type_.cls == "in" else f"发布者：{says}；接收者：{hears}"
    return Contract(
        type_.ce_type,
        ROLES[type_.cls],
        type_.major,
        lambda minor: schemas.of_event(type_, minor),
        affected,
    )


def versions(key: str, folder: Path = FOLDER) -> list[tuple[int, int]]:
    """Major and minor, the oldest first."""
    found = (p.stem.partition(".") for p in (folder / key).glob("*.json"))
    return sorted((int(major), int(minor)) for major, _, minor in found)


def read(key: str, version: tuple[int, int], folder: Path = FOLDER) -> Schema:
    found: Schema = json.loads((folder / key / f"{version[0]}.{version[1]}.json").read_bytes())
    return found


def change(contract: Contract, judge: Judge, folder: Path = FOLDER) -> Change | None:
    """What has become of a contract since it was published last."""
    minors = [minor for major, minor in versions(contract.key, folder) if major == contract.major]
    if not minors:
        return Change(contract, "new", None, f"{contract.major}.0", contract.make(0))
    last = minors[-1]
    before = f"{contract.major}.{last}"
    old, new = read(contract.key, (contract.major, last), folder), contract.make(last)
    if new == old:
        return None
    if _bare(new) == _bare(old):
        return Change(contract, "reworded", before, before, new)
    lines = tuple(differences(old, new))
    kind: Literal["compatible", "breaking"] = (
        "compatible" if compatible(old, new, contract.role, judge) else "breaking"
    )
    made = contract.make(last + 1)
    return Change(contract, kind, before, f"{contract.major}.{last + 1}", made, lines)


def gone(contracts: Sequence[Contract], folder: Path = FOLDER) -> list[str]:
    """What was published and is no contract of ours any more: somebody may still say it, or wait for it."""
    there = {str(file.parent.relative_to(folder)) for file in folder.rglob("[0-9]*.[0-9]*.json")}
    return sorted(there - {contract.key for contract in contracts})


def compatible(old: Schema, new: Schema, role: Role, judge: Judge) -> bool:
    """Whoever writes, writes only what it knows; whoever reads lets pass what it does not: so the writer's side is
    compared as if it were closed. What the tool does not see is ours: patterns, defaults, and a field that is told no
    more, which an open reader would miss without a word."""
    olds, news = fields(old), fields(new)
    if any(olds[path].default != news[path].default for path in olds.keys() & news.keys()):
        return False  # whoever leaves it out would say something else
    if role in ("deserializer", "both") and not (
        judge(_json(_closed(old)), _json(new), "deserializer") and _patterns(olds, news)
    ):
        return False
    if role in ("serializer", "both"):
        kept = all(path in news for path in olds)
        return kept and judge(_json(old), _json(_closed(new)), "serializer") and _patterns(news, olds)
    return True


def _patterns(written: dict[str, Field], read: dict[str, Field]) -> bool:
    """Does the reader ask for no pattern that the writer does not keep?"""
    return all(
        path not in written or written[path].shape.get("pattern") == field.shape["pattern"]
        for path, field in read.items()
        if "pattern" in field.shape
    )


def differences(old: Schema, new: Schema) -> Iterator[str]:
    """What has changed, for a person."""
    olds, news = fields(old), fields(new)
    for path in olds.keys() - news.keys():
        yield f"{path}：取消"
    for path in news.keys() - olds.keys():
        yield f"{path}：新增{'，必填' if news[path].required else ''}"
    for path in olds.keys() & news.keys():
        was, now = olds[path], news[path]
        if was.required != now.required:
            yield f"{path}：改为{'必填' if now.required else '可不填'}"
        if set(was.types) != set(now.types):
            yield f"{path}：类型由 {'、'.join(was.types)} 改为 {'、'.join(now.types)}"
        if was.default != now.default:
            yield f"{path}：不填时由 {was.default} 改为 {now.default}"
        for key in sorted(was.shape.keys() | now.shape.keys()):
            a, b = was.shape.get(key), now.shape.get(key)
            if isinstance(a, list) and isinstance(b, list):
                gone, more = ("、".join(str(v) for v in x if v not in y) for x, y in ((a, b), (b, a)))
                yield from filter(
                    None, (gone and f"{path}：不再允许 {gone}", more and f"{path}：增加 {more}")
                )
            elif a != b:
                yield f"{path}：{key} 由 {a if a is not None else '无'} 改为 {b if b is not None else '无'}"


_SAYINGS = {"$id", "$schema", "$comment", "description", "title", "examples"}


def _bare(schema: Any) -> Any:
    """Without what only people read, and in one order."""
    if isinstance(schema, dict):
        return {
            k: _bare(v) if k not in ("properties", "$defs") else {name: _bare(one) for name, one in v.items()}
            for k, v in schema.items()
            if k not in _SAYINGS
        }
    if isinstance(schema, list):
        return sorted((_bare(one) for one in schema), key=repr)
    return schema


def _json(schema: Schema) -> str:
    """For the tool: without what it does not know, or takes for more than it says (any text, any JSON)."""
    bare = _bare(schema)
    for node in list(nodes(bare)):
        node.pop("propertyNames", None)
        node.pop("not", None)
        node.pop("format", None)
        node.pop("default", None)
        if node.get("pattern") == TEXT:
            del node["pattern"]
        for anything in ("Json", "Ignored"):
            if node.get("additionalProperties") == {"$ref": f"#/$defs/{anything}"}:
                del node["additionalProperties"]
            node.get("$defs", {}).pop(anything, None)
    return json.dumps(bare)


def _closed(schema: Schema) -> Schema:
    made: Schema = json.loads(json.dumps(schema))
    for node in nodes(made):
        if "properties" in node:
            node["additionalProperties"] = False
    return made


# --- examples ----------------------------------------------------------------------------------------


def examples(key: str, folder: Path = FOLDER) -> dict[str, str]:
    """The golden examples of a type, with the digest by which they are recognised for ever."""
    return {
        path.stem: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((folder / key / "examples").glob("*.json"))
    }


def tampered(index: Any, folder: Path = FOLDER) -> list[str]:
    """Examples that were published and are not there as they were: somebody has such events in a stream or a file."""
    return [
        f"{entry['type']}/examples/{name}.json"
        for entry in index.get("types", ())
        for name, digest in entry.get("examples", {}).items()
        if examples(entry["type"], folder).get(name) != digest
    ]


def index(types: Sequence[EventType], forms: Sequence[dict[str, Any]], folder: Path = FOLDER) -> Schema:
    """What there is, for programs."""
    return {
        "dialect": schemas.DIALECT,
        "types": [
            {
                "type": type_.ce_type,
                "class": type_.cls,
                "subject": type_.subject("{district}" if type_.cls == "evt" else "{publisher}"),
                "says": list(type_.says),
                "hears": list(type_.hears),
                "versions": [f"{major}.{minor}" for major, minor in versions(type_.ce_type, folder)],
                "examples": examples(type_.ce_type, folder),
            }
            for type_ in types
        ],
        "forms": [
            {**form, "versions": [f"{a}.{b}" for a, b in versions(form["key"], folder)]} for form in forms
        ],
    }


def written(document: Any) -> str:
    """A JSON file as it is kept."""
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"
