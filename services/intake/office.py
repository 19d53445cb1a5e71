"""The parts of an Office file, changed where they are: what nobody changes is written as it came, byte for byte.

What is changed is not decided here (`sheet_marks.py`, `card_marks.py`).
"""

import posixpath
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from xml.parsers import expat
from xml.sax.saxutils import escape
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

STILL = datetime(2025, 1, 1)  # noqa: DTZ001 - a zip has no zone; written into files so that their bytes repeat
TYPES = "[Content_Types].xml"
RELATION = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_RELATIONS = "http://schemas.openxmlformats.org/package/2006/relationships"
_TAG = re.compile(rb"""<(?:[^>"']|"[^"]*"|'[^']*')*>""")
_ENCODING = re.compile(rb"""^(<\?xml[^>]*?)\s+encoding=["']([\w.-]+)["']""")
_NOT_XML = re.compile("[\x00-\x08\x0b-\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")

Splice = tuple[int, int, bytes]
"""From where to where of a part, and what stands there instead."""


@dataclass(slots=True)
class Node:
    """An element and its bytes: `start` of its tag, `inner` behind that, `close` before the end tag, `end`."""

    name: str
    attributes: dict[str, str]
    start: int
    inner: int
    close: int = 0
    end: int = 0


def text(said: str) -> bytes:
    """As the content of an element."""
    return escape(_NOT_XML.sub("", said)).encode()


def quoted(said: str) -> bytes:
    """As the value of an attribute."""
    return text(said).replace(b'"', b"&quot;").replace(b"\n", b"&#10;")


def local(name: str) -> str:
    return name.rpartition(":")[2]


def nodes(content: bytes, wanted: Callable[[int, str], bool]) -> list[Node]:
    """The elements for which `wanted` (depth, name without prefix) holds, as they begin."""
    parser = expat.ParserCreate()
    found: list[Node] = []
    open_: list[Node | None] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        node = None
        if wanted(len(open_), local(name)):
            at = parser.CurrentByteIndex
            node = Node(local(name), attributes, at, tag_end(content, at))
            found.append(node)
        open_.append(node)

    def end(_: str) -> None:
        if node := open_.pop():
            node.close, node.end = closing(content, parser.CurrentByteIndex, node.inner)

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.Parse(content, True)
    return found


def tag_end(content: bytes, at: int) -> int:
    """Behind the start tag at `at`; a `>` within quotes does not end it."""
    found = _TAG.match(content, at)
    assert found  # what the parser has taken for a tag is one
    return found.end()


def closing(content: bytes, at: int, inner: int) -> tuple[int, int]:
    """Before and behind the end tag at `at`; an element that closes itself has none."""
    if content[inner - 2 : inner] == b"/>":  # the parser then is behind it already
        return inner, inner
    return at, content.index(b">", at) + 1


def spliced(content: bytes, splices: Iterable[Splice]) -> bytes:
    """Those at one place follow each other in the order given."""
    parts: list[bytes] = []
    at = 0
    for start, end, new in sorted(splices, key=lambda s: s[:2]):
        parts += (content[at:start], new)
        at = end
    return b"".join((*parts, content[at:]))


def added(content: bytes, node: Node, new: bytes) -> Splice:
    """At the end of an element, also of one that closes itself."""
    if node.close == node.inner == node.end:
        tag = content[node.start : node.end]
        name = re.split(rb"[\s/>]", tag[1:], maxsplit=1)[0]
        return node.start, node.end, tag[:-2].rstrip() + b">" + new + b"</" + name + b">"
    return node.close, node.close, new


def with_attribute(tag: bytes, name: str, value: str | int | None) -> bytes:
    """A start tag with another value of an attribute, or without it."""
    tag = re.sub(rb"""\s+%s=(?:"[^"]*"|'[^']*')""" % name.encode(), b"", tag)
    if value is None:
        return tag
    at = tag.rindex(b"/>") if tag.endswith(b"/>") else len(tag) - 1
    return tag[:at].rstrip() + b' %s="%s"' % (name.encode(), quoted(str(value))) + tag[at:]


def prefix(content: bytes, node: Node) -> bytes:
    """With its colon: what stands before the name of the element."""
    name = re.split(rb"[\s/>]", content[node.start + 1 : node.inner], maxsplit=1)[0]
    return name[: name.rfind(b":") + 1]


def _utf8(content: bytes) -> bytes:
    """A part of XML in the encoding in which we write."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        said = content.decode("utf-16")
        return re.sub(r"^(<\?xml[^>]*?)\s+encoding=[\"'][^\"']*[\"']", r"\1", said).encode()
    found = _ENCODING.match(content)
    if found and found[2].lower() not in (b"utf-8", b"us-ascii"):
        return _ENCODING.sub(rb"\1", content, count=1).decode(found[2].decode()).encode()
    return content


@dataclass(frozen=True)
class Relation:
    id: str
    type: str
    target: str
    """The part, by its path in the package."""


class Package:
    """Whoever asks for a part that is not there gets a KeyError: the file is no Office file that we understand."""

    def __init__(self, data: bytes) -> None:
        self._archive = ZipFile(BytesIO(data))
        self._names = {name.casefold(): name for name in self._archive.namelist()}
        self._changed: dict[str, bytes | None] = {}

    def has(self, name: str) -> bool:
        return self._changed.get(self._own(name), b"") is not None and name.casefold() in self._names

    def read(self, name: str) -> bytes:
        own = self._own(name)
        content = self._changed.get(own, b"")
        if content is None or own.casefold() not in self._names:
            raise KeyError(name)
        return content or _utf8(self._archive.read(own))

    def write(self, name: str, content: bytes) -> None:
        own = self._own(name)
        self._names[own.casefold()] = own
        self._changed[own] = content

    def drop(self, name: str) -> None:
        self._changed[self._own(name)] = None
        if self.has(of := _rels(name)):
            self.drop(of)
        types = self.read(TYPES)
        gone = [
            (n.start, n.end, b"")
            for n in nodes(types, lambda _, name: name == "Override")
            if n.attributes.get("PartName", "").lstrip("/").casefold() == name.casefold()
        ]
        self.write(TYPES, spliced(types, gone))

    def free(self, pattern: str) -> str:
        """The first name of this pattern that no part has: `xl/comments{}.xml`."""
        n = 1
        while pattern.format(n).casefold() in self._names:
            n += 1
        return pattern.format(n)

    def _own(self, name: str) -> str:
        return self._names.get(name.casefold(), name)

    # -- relations ---------------------------------------------------------------------------------------

    def relations(self, part: str) -> list[Relation]:
        """Those to other parts; what a part says of the world outside is not ours to follow."""
        if not self.has(_rels(part)):
            return []
        found = nodes(self.read(_rels(part)), lambda _, name: name == "Relationship")
        base = "/" + posixpath.dirname(part)
        return [
            Relation(
                n.attributes["Id"],
                n.attributes["Type"],
                posixpath.normpath(posixpath.join(base, n.attributes["Target"])).lstrip("/"),
            )
            for n in found
            if n.attributes.get("TargetMode", "").casefold() != "external"
        ]

    def related(self, part: str, kind: str) -> list[Relation]:
        """By the last word of their type: the strict form of the format has other addresses."""
        return [r for r in self.relations(part) if r.type.endswith(f"/{kind}")]

    def relate(self, part: str, kind: str, target: str) -> str:
        """The id of the relation that is made."""
        path = _rels(part)
        if not self.has(path):
            self.write(path, b'<Relationships xmlns="%s"></Relationships>' % _RELATIONS.encode())
        content = self.read(path)
        found = nodes(content, lambda *_: True)
        taken = {n.attributes.get("Id", "") for n in found[1:]}
        id_ = next(f"rId{n}" for n in range(1, len(found) + 1) if f"rId{n}" not in taken)
        new = b'<%sRelationship Id="%s" Type="%s/%s" Target="/%s"/>' % (
            prefix(content, found[0]),
            id_.encode(),
            RELATION.encode(),
            kind.encode(),
            quoted(target),
        )
        self.write(path, spliced(content, [added(content, found[0], new)]))
        return id_

    def unrelate(self, part: str, target: str) -> None:
        ids = {r.id for r in self.relations(part) if r.target.casefold() == target.casefold()}
        content = self.read(_rels(part))
        found = nodes(content, lambda _, name: name == "Relationship")
        gone = [(n.start, n.end, b"") for n in found if n.attributes["Id"] in ids]
        self.write(_rels(part), spliced(content, gone))

    def declare(self, part: str, type_: str) -> None:
        """What a part is, in the list of the package."""
        content = self.read(TYPES)
        root = nodes(content, lambda depth, _: depth == 0)[0]
        new = b'<%sOverride PartName="/%s" ContentType="%s"/>' % (
            prefix(content, root),
            quoted(part),
            type_.encode(),
        )
        self.write(TYPES, spliced(content, [added(content, root, new)]))

    # -- the file ----------------------------------------------------------------------------------------

    def file(self) -> bytes:
        """Parts in their order, with the times that they had; new ones behind them with the same time always."""
        out = BytesIO()
        with ZipFile(out, "w", ZIP_DEFLATED) as new:
            for entry in self._archive.infolist():
                content = self._changed.pop(entry.filename, self._archive.read(entry))
                if content is None:
                    continue
                info = ZipInfo(entry.filename, max(entry.date_time, (1980, 1, 1, 0, 0, 0)))
                new.writestr(info, content, entry.compress_type)
            for name, content in self._changed.items():
                if content is not None:
                    new.writestr(ZipInfo(name, STILL.timetuple()[:6]), content, ZIP_DEFLATED)
        return out.getvalue()


def _rels(part: str) -> str:
    folder, name = posixpath.split(part)
    return posixpath.join(folder, "_rels", f"{name}.rels")


def first(found: Sequence[Node], name: str) -> Node | None:
    return next((n for n in found if n.name == name), None)
