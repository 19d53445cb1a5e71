"""A YAML file with the line of everything in it, so that what is wrong can be told where it stands.

What the data means is not here: that is the reader of the file (`load`, `directory`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import RoundTripConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

Path = tuple[str | int, ...]

SYNTAX = {
    "mapping values are not allowed": "此处不能再有冒号；含“: ”的文字须加引号",
    "could not find expected ':'": "缺少冒号（冒号后须有空格）",
    r"found character '\t'": "缩进只能用空格，不能用制表符",
    "expected <block end>": "缩进与上文不一致",
    "expected ',' or": "括号没有配对，或缺少逗号",
    "found undefined alias": "引用了没有定义的锚点",
    "expected the node content": "内容不完整",
    "unexpected end of stream": "引号没有配对",
    "found another document": "一个文件只能有一份内容（不能有第二个 ---）",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong in a file; `message` says in Chinese what, and what to write instead."""

    line: int
    path: str
    message: str
    file: str = ""

    def __str__(self) -> str:
        return f"{self.file} 第{self.line}行 {self.path}：{self.message}".replace(" ：", "：")


class _Constructor(RoundTripConstructor):
    """Leaves dates as text: pydantic reads them, and an impossible one is then told with its line."""


_Constructor.add_constructor("tag:yaml.org,2002:timestamp", lambda _, node: node.value)


class Unreadable(ValueError):
    """No YAML at all: the one fault that hides all others."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(str(fault))
        self.fault = fault


@dataclass(frozen=True)
class Source:
    """`data` are plain values; of a key that stands twice, the first value. See `repeated`."""

    name: str
    data: Any
    _root: Node | None

    @classmethod
    def read(cls, name: str, content: bytes) -> "Source":
        try:
            text = content.decode("utf-8-sig")
            yaml = YAML()
            yaml.Constructor = _Constructor
            yaml.allow_duplicate_keys = True
            return cls(name, _plain(yaml.load(text)), YAML().compose(text))
        except UnicodeDecodeError as error:
            line = content[: error.start].count(b"\n") + 1
            raise Unreadable(Fault(line, "", "不是 UTF-8 文本", name)) from error
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            why = next((said for cue, said in SYNTAX.items() if cue in (error.problem or "")), error.problem)
            raise Unreadable(
                Fault(mark.line + 1 if mark else 1, "", f"不是有效的 YAML：{why}", name)
            ) from error
        except YAMLError as error:
            raise Unreadable(Fault(1, "", "不是有效的 YAML：含有不能使用的控制字符", name)) from error

    def fault(self, path: Path, message: str) -> Fault:
        return Fault(self.line(path), shown(path), message, self.name)

    def line(self, path: Path) -> int:
        """Where it stands, counted from 1: a key's own line, however long its value; what is missing stands
        where its parent begins."""
        node, line = self._root, 1
        for step in path:
            found = _child(node, step)
            if found is None:
                break
            node, line = found
        return line

    @cached_property
    def repeated(self) -> tuple[Fault, ...]:
        """Keys that stand twice in one mapping, of which YAML would silently take one."""
        return tuple(self._repeated(self._root, (), set()))

    def _repeated(self, node: Node | None, path: Path, seen: set[int]) -> Iterator[Fault]:
        if node is None or id(node) in seen:
            return
        seen.add(id(node))
        if isinstance(node, SequenceNode):
            for i, item in enumerate(node.value):
                yield from self._repeated(item, (*path, i), seen)
        elif isinstance(node, MappingNode):
            lines: dict[str, int] = {}
            for key, value in node.value:
                name, line = str(key.value), key.start_mark.line + 1
                if name in lines:
                    message = f"{name} 出现了两次，前一次在第{lines[name]}行；请只留一个"
                    yield Fault(line, shown((*path, name)), message, self.name)
                else:
                    lines[name] = line
                yield from self._repeated(value, (*path, name), seen)


def shown(path: Path) -> str:
    """`rules[3].holds`"""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")


def _child(node: Node | None, step: str | int) -> tuple[Node, int] | None:
    if isinstance(node, SequenceNode) and isinstance(step, int) and step < len(node.value):
        item = node.value[step]
        return item, item.start_mark.line + 1
    if isinstance(node, MappingNode):
        for key, value in node.value:
            if isinstance(key, ScalarNode) and key.value == str(step):
                return value, key.start_mark.line + 1
    return None


def _plain(value: Any) -> Any:
    """Without the comments and positions that ruamel keeps in its own kinds of values."""
    if isinstance(value, dict):
        return {_plain(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value
