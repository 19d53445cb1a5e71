"""From a notice's file to everything that is compiled from it, or to all that is wrong with the file.

What a notice may say is not here (`model`), nor what its expressions mean (`rules`).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from hashlib import sha256
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path as FilePath
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from shared.notices.forms import FormJudge
from shared.notices.model import Notice, Rule
from shared.notices.rules import RuleBook
from shared.notices.source import Fault, Path, Source, Unreadable

NOT_NOTICES = {"agencies.yaml", "agencies.yml"}

PATTERNS = {
    r"^[a-z0-9][a-z0-9_-]{0,63}$": '小写字母、数字、- 和 _，如 "440100"（数字须加引号）',
    r"^[a-z][a-z0-9_]{0,40}$": "以小写字母开头，只含小写字母、数字和 _，如 product_name",
    r"^F[\d-]+\.[A-E]?\d+$": "字段编号，如 F3.02",
    r"^F[\d-]+\.[A-E]?\d*$": "字段编号，如 F9-1.A",
    r"^F[\d-]+\.\d+$": "字段编号，如 F10-1.16",
    r"^F[\d-]+$": "表的编号，如 F3、F10-2",
    r"^R-[A-Z]+-\d{3}[a-z]?$": "规则编号，如 R-COL-010",
    r"^DL-\d\d$": "期限编号，如 DL-01",
    r"^D\d\d$": "方向编号，如 D01",
    r"^[a-z0-9][a-z0-9-]{2,60}$": "小写字母、数字和 -，如 gz-collection-2025q1",
}
KINDS = {
    "string": "文字",
    "int": "整数",
    "float": "数字",
    "bool": "true 或 false",
    "date": "日期，如 2025-03-07",
    "time": "时间，如 09:00",
    "tuple": "列表",
    "dict": "键值对",
    "model": "键值对",
    "decimal": "数字",
}

FOLLOWS: dict[tuple[Path, Path], str] = {
    (("directions",), ("code",)): "没有方向",
    (("forms",), ("id",)): "没有表",
    (("forms",), ("key",)): "列",
    (("tallies",), ("name",)): "facts.",
    (("procedure",), ("id",)): "阶段",
    (("procedure",), ("to",)): "阶段",
    (("procedure",), ("stage",)): "阶段",
}
"""After a name that could not be used, what can only be a consequence of it."""

# Stands in for a procedure that cannot be used, so that the rest of the file is still examined.
_PROCEDURE = {
    "start": [{"stage": "a", "recommended": True}, {"stage": "a", "recommended": False}],
    "stages": [{"id": "a", "name": "a", "clause": "a", "actor": "city", "ends": "closed"}],
}


class NoticeBroken(ValueError):
    """Files that are no notices; `errors` are all that is wrong with them, in the order of their lines."""

    def __init__(self, errors: Sequence[Fault]) -> None:
        self.errors = tuple(sorted(set(errors), key=lambda e: (e.file, e.line, e.path, e.message)))
        super().__init__("\n".join(map(str, self.errors)))


@dataclass(frozen=True)
class CompiledNotice:
    """A notice ready to judge with; `digest` is the SHA-256 of its file."""

    notice: Notice
    forms: Mapping[str, FormJudge]
    rules: RuleBook
    digest: str


def load(source: Traversable | bytes, name: str = "notice.yaml") -> CompiledNotice:
    """One notice, or `NoticeBroken` with every error of its file."""
    if isinstance(source, bytes):
        content = source
    else:
        name = source.name
        try:
            content = source.read_bytes()
        except OSError as error:
            raise NoticeBroken([Fault(1, "", f"无法读取（{error.strerror}）", name)]) from error
    return _compiled(name, content)


@lru_cache(maxsize=16)
def _compiled(name: str, content: bytes) -> CompiledNotice:
    """A third of a second each; nothing in it can be changed, so whoever asks again gets the same."""
    try:
        file = Source.read(name, content)
    except Unreadable as error:
        raise NoticeBroken([error.fault]) from error
    examined = _Examination(file)
    faults = [*file.repeated, *(file.fault(path, why) for path, why in examined.faults.items())]
    if faults or examined.notice is None:
        raise NoticeBroken(faults)
    notice = examined.notice
    forms = {form.id: FormJudge(notice, form) for form in notice.forms}
    return CompiledNotice(notice, forms, RuleBook(notice), sha256(content).hexdigest())


def load_all(extra: FilePath | None = None) -> dict[str, CompiledNotice]:
    """The packaged notices by id; those of the mounted folder add to them or take their place."""
    found: dict[str, CompiledNotice] = {}
    faults: list[Fault] = []
    for folder in (resources.files(__package__) / "data", extra):
        own: dict[str, str] = {}
        for file in _files(folder):
            try:
                one = load(file)
            except NoticeBroken as error:
                faults += error.errors
                continue
            if one.notice.id in own:
                message = f"{one.notice.id} 已用于 {own[one.notice.id]}；每份通知须有自己的 id"
                faults.append(Fault(1, "id", message, file.name))
            own[one.notice.id] = file.name
            found[one.notice.id] = one
    if faults:
        raise NoticeBroken(faults)
    return found


def _files(folder: Traversable | None) -> Sequence[Traversable]:
    if folder is None:
        return ()
    if not folder.is_dir():
        raise NoticeBroken([Fault(1, "", "不是目录", str(folder))])
    files = (f for f in folder.iterdir() if f.name.endswith((".yaml", ".yml")) and f.name not in NOT_NOTICES)
    return sorted(files, key=lambda f: f.name)


class _Examination:
    """Finds every fault of one file: what fails is mended or left out, and the rest examined again, until
    a notice stands whose parts can be held against each other. Only one without faults leaves here."""

    def __init__(self, file: Source) -> None:
        self.file = file
        self.faults: dict[Path, str] = {}
        self.notice: Notice | None = None
        self._told: tuple[Path, ...] = ()
        self._data = deepcopy(file.data)
        self._dropped: set[Path] = set()
        self._tried: set[Path] = set()
        self._stand_ins = 0
        if not isinstance(self._data, dict):
            self.faults[()] = "应为一份通知（键值对）"
            return
        mended = self._mend_until_it_stands()
        if mended is not None:
            self._told = tuple(self.faults)
            for path, why in (*mended.crossed(), *((e.where, str(e)) for e in RuleBook.problems(mended))):
                self._tell_of_the_whole(self._original(path), why)
        if not self.faults:
            self.notice = mended

    def _mend_until_it_stands(self) -> Notice | None:
        for _ in range(60):  # each round mends at least one part; a file has not that many layers of faults
            try:
                return Notice.model_validate(self._remaining(self._data, ()))
            except ValidationError as error:
                grouped: dict[Path, list[ErrorDetails]] = {}
                for one in error.errors(include_url=False):
                    path = self._located(one)
                    # A parameter may be a list, and an error within it is then only one branch of a union.
                    path = path[:4] if path[2:3] == ("params",) else path
                    grouped.setdefault(path, []).append(one)
            before = (deepcopy(self._data), set(self._dropped))
            known = list(self.faults)
            for path in [p for p, errors in grouped.items() if errors[0]["type"] == "too_short"]:
                if any(len(p) > len(path) and p[: len(path)] == path for p in grouped):
                    del grouped[path]  # short only because its items are at fault
            for path, errors in grouped.items():
                # What is wrong with a whole because of a part that was mended is not the author's fault.
                if not any(part[: len(path)] == path for part in known):
                    self.faults[path] = _explain(path, errors)
                self._mend(path, errors[0]["type"], again=path in self._tried)
                self._tried.add(path)
            if before == (self._data, self._dropped):
                break
        return None

    def _tell_of_the_whole(self, path: Path, why: str) -> None:
        """Not about a part that is itself at fault, nor about what follows from one that was mended."""
        if any(path[: len(known)] == known or known[: len(path)] == path for known in self._told):
            return
        for known in self._told:
            cue = FOLLOWS.get((known[:1], known[-1:]))
            if cue and cue in why:
                return
            if known[:1] == ("lists",) and len(known) == 2 and "没有代码表" in why:
                return
            # Without its parameters, or with its fields misspelt, a rule's expressions cannot be judged.
            misspelt = known[2:3] == ("params",) or not {*known[2:3]} <= {*Rule.model_fields}
            if known[:1] == ("rules",) and known[:2] == path[:2] and misspelt:
                return
        if "没有阶段" in why and self._data.get("procedure") == _PROCEDURE:
            return
        value = _at(self.file.data, path)
        for gone in self._dropped:
            item = _at(self.file.data, gone)
            names = [item.get(k) for k in ("id", "code", "key", "name")] if isinstance(item, dict) else []
            if any(name and (name == value or f" {name}" in why or f".{name}" in why) for name in names):
                return
        self.faults.setdefault(path, why)

    # --- mending ---

    def _mend(self, path: Path, kind: str, *, again: bool) -> None:
        parent = _at(self._data, path[:-1]) if path else None
        if kind in ("extra_forbidden", "invalid_key") and isinstance(parent, dict):
            parent.pop(path[-1], None)
        elif kind == "value_error" and path[:1] == ("procedure",):
            self._data["procedure"] = deepcopy(_PROCEDURE)
        elif kind == "value_error" and path[-2:-1] == ("columns",):
            column = _at(self._data, path)
            column.pop("list", None)
            column["type"] = "text"
        elif kind == "value_error" or again or not isinstance(parent, dict):
            self._drop(path)
        else:
            owner = _model_at(path[:-1])
            field = owner.model_fields.get(str(path[-1])) if owner else None
            if field is None or not field.is_required():
                parent.pop(path[-1], None)
            else:
                parent[path[-1]] = self._stand_in(field.annotation, field.metadata)

    def _drop(self, path: Path) -> None:
        """Leaves out the item of a list that this belongs to, or failing that the whole part."""
        numbers = [i for i, step in enumerate(path) if isinstance(step, int)]
        if numbers:
            self._dropped.add(path[: numbers[-1] + 1])
        elif path[:1] == ("procedure",):
            self._data["procedure"] = deepcopy(_PROCEDURE)
        elif len(path) > 1 and isinstance(_at(self._data, path[:-1]), dict):
            _at(self._data, path[:-1]).pop(path[-1], None)

    def _stand_in(self, annotation: Any, metadata: Sequence[Any]) -> Any:
        self._stand_ins += 1
        n = self._stand_ins
        kind: Any = Annotated[annotation, *metadata] if metadata else annotation
        for value in (
            f"x{n}",
            f"D9{n}",
            f"R-XXX-{n:03}",
            f"F9{n:02}",
            f"F0.{n:02}",
            f"DL-{n:02}",
            2000,
            "2000-01-01",
            *_literals(annotation),
            [],
            [f"x{n}"],
            ["city"],
            {},
            True,
            deepcopy(_PROCEDURE),
            {"year": 2000},
        ):
            try:
                TypeAdapter(kind).validate_python(value)
            except ValidationError:
                continue
            return value
        return None

    # --- places ---

    def _remaining(self, value: Any, path: Path) -> Any:
        if isinstance(value, dict):
            return {k: self._remaining(v, (*path, k)) for k, v in value.items()}
        if isinstance(value, list):
            items = enumerate(value)
            return [self._remaining(v, (*path, i)) for i, v in items if (*path, i) not in self._dropped]
        return value

    def _original(self, path: Path) -> Path:
        """A place in what remained, as the place in the file."""
        found: Path = ()
        for step in path:
            if isinstance(step, int):
                items = _at(self._data, found)
                size = len(items) if isinstance(items, list) else 0
                left = [i for i in range(size) if (*found, i) not in self._dropped]
                step = left[step] if step < len(left) else step
            found = (*found, step)
        return found

    def _located(self, error: ErrorDetails) -> Path:
        """pydantic's place without what is not in the file: the names of unions' branches."""
        at: Any = self._remaining(self._data, ())
        place: Path = ()
        for i, step in enumerate(error["loc"]):
            if _has(at, step):
                at = at[step]
            elif error["type"] != "missing" or i < len(error["loc"]) - 1:
                continue
            place = (*place, step)
        return self._original(place)


def _at(data: Any, path: Path) -> Any:
    for step in path:
        if not _has(data, step):
            return None
        data = data[step]
    return data


def _has(data: Any, step: str | int) -> bool:
    if isinstance(data, list):
        return isinstance(step, int) and step < len(data)
    return isinstance(data, dict) and step in data


# --- what the model wants at a place ---


def _inside(annotation: Any, step: str | int) -> Any:
    """What stands one step further in, in a value of this type."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _inside(arguments[0], step)
    if origin in (Union, UnionType):
        return next((found for a in arguments if (found := _inside(a, step)) is not None), None)
    if origin is tuple and isinstance(step, int):
        return arguments[0]
    if origin is dict:
        return arguments[1]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = annotation.model_fields.get(str(step))
        return field.annotation if field else None
    return None


def _model_at(path: Path) -> type[BaseModel] | None:
    annotation: Any = Notice
    for step in path:
        annotation = _inside(annotation, step)
    while get_origin(annotation) is not None:
        models = [a for a in get_args(annotation) if a is not type(None)]
        annotation = models[0] if models else None
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _literals(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
    else:
        for argument in get_args(annotation):
            yield from _literals(argument)


# --- telling ---


def _explain(path: Path, errors: Sequence[ErrorDetails]) -> str:
    if path[-2:-1] == ("params",):
        return f"应为 文字、数字、true、false 或文字的列表；实为 {_input(errors[0])}"
    if len(errors) > 1:
        wanted = " 或 ".join(dict.fromkeys(map(_wanted, errors)))
        return f"应为 {wanted}；实为 {_input(errors[0])}"
    error = errors[0]
    key = str(path[-1]) if path else ""
    match error["type"]:
        case "missing":
            return f"缺少 {key}"
        case "extra_forbidden":
            return _unknown(key, _model_at(path[:-1]))
        case "invalid_key":
            return f"{key} 不能作键：键须为文字（数字须加引号）"
        case "value_error":
            return str(error["ctx"]["error"])
        case "string_too_short":
            return "不能为空"
        case "too_short":
            return f"至少要有 {error['ctx']['min_length']} 项"
        case _:
            return f"应为 {_wanted(error)}；实为 {_input(error)}{_hint(error)}"


def _unknown(key: str, owner: type[BaseModel] | None) -> str:
    known = list(owner.model_fields) if owner else []
    near = get_close_matches(key, known, n=1)
    meant = f"，是否想写 {near[0]}？" if near else "；"
    return f"没有 {key} 这一项{meant}可用：{'、'.join(known)}"


def _wanted(error: ErrorDetails) -> str:
    kind, context = error["type"], error.get("ctx", {})
    match kind:
        case "literal_error":
            return str(context["expected"]).replace("'", "").replace(", ", "、").replace(" or ", "、")
        case "string_pattern_mismatch":
            return PATTERNS.get(context["pattern"], f"符合 {context['pattern']} 的文字")
        case "greater_than":
            return f"大于 {context['gt']:g} 的数"
        case "greater_than_equal":
            return f"不小于 {context['ge']:g} 的数"
        case "less_than_equal":
            return f"不大于 {context['le']:g} 的数"
        case "string_too_short":
            return "不空的文字"
    return KINDS.get(kind.split("_")[0], error["msg"])


def _input(error: ErrorDetails) -> str:
    text = json.dumps(error["input"], ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:60] + "…"


def _hint(error: ErrorDetails) -> str:
    if error["type"] == "literal_error":
        options = _wanted(error).split("、")
        near = get_close_matches(str(error["input"]), options, n=1)
        return f"，是否想写 {near[0]}？" if near else ""
    if error["type"] == "string_type" and isinstance(error["input"], int | float):
        return "（数字和 true、false 须加引号）"
    return ""
