"""Comments on the cells of a worksheet, beside those that its filer has written: the parts in which they are kept.

What they say is not decided here (`marking.py`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from openpyxl.utils.cell import coordinate_to_tuple

from services.intake.office import RELATION, Node, Package, added, first, nodes, prefix, spliced, text
from services.intake.sheet_marks import ORDER, STAMP, escaped, placed

NOTES = "application/vnd.openxmlformats-officedocument.spreadsheetml.comments+xml"
DRAWING = "application/vnd.openxmlformats-officedocument.vmlDrawing"
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_SIGNED = f"—— {STAMP} ——"
"""The first line of what we say. LibreOffice forgets who the author of a comment is."""
_EMPTY_DRAWING = (
    b'<xml xmlns:v="urn:schemas-microsoft-com:vml" xmlns:o="urn:schemas-microsoft-com:office:office" '
    b'xmlns:x="urn:schemas-microsoft-com:office:excel"></xml>'
)
_BOX = (
    b'<v:shapetype id="_x0000_t202" coordsize="21600,21600" o:spt="202" path="m,l,21600r21600,l21600,xe">'
    b'<v:stroke joinstyle="miter"/><v:path gradientshapeok="t" o:connecttype="rect"/></v:shapetype>'
)
_SHAPE = re.compile(rb"<(v:shape)\b.*?</\1\s*>", re.DOTALL)
_PLACE = re.compile(rb"<x:(Row|Column)>\s*(\d+)\s*</x:\1>")
WIDTH, LINE, MOST = 270, 15, 360
"""Points; 24 Chinese characters are a line."""


def note(package: Package, part: str, content: bytes, said: Mapping[str, str]) -> bytes:
    """The worksheet with these comments and without those of an earlier marking, whose parts are changed as well."""
    home = next((r.target for r in package.related(part, "comments")), None)
    drawings = {r.id: r.target for r in package.related(part, "vmlDrawing")}
    shown = next(
        (n for n in nodes(content, lambda depth, name: depth == 1 and name == "legacyDrawing")), None
    )
    id_ = next((v for k, v in shown.attributes.items() if k.endswith(":id")), "") if shown else ""
    drawing = drawings.get(id_)
    if home is None and not said:
        return content
    old = _Notes(package.read(home) if home else b"")
    written = old.with_(said)
    boxes = package.read(drawing) if drawing else _EMPTY_DRAWING
    boxes = _boxes(boxes, old.ours, written.new)
    if written.content is None and home:
        package.unrelate(part, home)
        package.drop(home)
        if drawing and shown and not _SHAPE.search(boxes):
            package.unrelate(part, drawing)
            package.drop(drawing)
            return spliced(content, [(shown.start, shown.end, b"")])
    elif written.content is not None:
        if home is None:
            home = package.free("xl/comments{}.xml")
            package.declare(home, NOTES)
            package.relate(part, "comments", home)
        package.write(home, written.content)
    if drawing:
        package.write(drawing, boxes)
        return content
    drawing = package.free("xl/drawings/vmlDrawing{}.vml")
    package.declare(drawing, DRAWING)
    package.write(drawing, boxes)
    id_ = package.relate(part, "vmlDrawing", drawing)
    top = nodes(content, lambda depth, _: depth == 1)
    p = prefix(content, top[0])
    new = b'<%slegacyDrawing xmlns:r="%s" r:id="%s"/>' % (p, RELATION.encode(), id_.encode())
    return spliced(content, [placed(content, top, ORDER, "legacyDrawing", new)])


@dataclass
class _Written:
    content: bytes | None
    """None when no comment is left."""
    new: dict[str, str]
    """Cells that had none."""


class _Notes:
    """A part of comments, of which some are ours."""

    def __init__(self, content: bytes) -> None:
        self.content = content or (
            b'<comments xmlns="%s"><authors></authors><commentList></commentList></comments>' % _MAIN.encode()
        )
        found = nodes(self.content, lambda _, name: name in _PARTS)
        self.root = nodes(self.content, lambda depth, _: depth == 0)[0]
        self.list = first(found, "commentList")
        self.authors = first(found, "authors")
        if self.list is None or self.authors is None:
            raise KeyError("commentList")
        names = [self._text(n) for n in found if n.name == "author"]
        self.author = names.index(STAMP) if STAMP in names else len(names)
        self.known = self.author < len(names)
        self.comments = {n.attributes["ref"]: n for n in found if n.name == "comment"}
        self.bodies: dict[str, Node] = {}
        self.texts: dict[str, list[tuple[Node, Node]]] = {}
        """Each with the run that it is all of, if it has one."""
        ref, run = "", self.root
        for node in found:
            if node.name == "comment":
                ref = node.attributes["ref"]
            elif node.name == "text":
                self.bodies[ref] = node
            elif node.name == "r":
                run = node
            elif node.name == "t":
                whole = run if run.start < node.start < run.end and run is not self.root else node
                self.texts.setdefault(ref, []).append((node, whole))
        self.ours = {ref for ref in self.comments if self._is_ours(ref)}

    def _is_ours(self, ref: str) -> bool:
        author = self.comments[ref].attributes.get("authorId")
        if self.known and author == str(self.author):
            return True
        said = b"".join(self.content[one.inner : one.close] for one, _ in self.texts.get(ref, ()))
        return said.lstrip().startswith(text(_SIGNED))

    def _text(self, node: Node) -> str:
        return self.content[node.inner : node.close].decode()

    def with_(self, said: Mapping[str, str]) -> _Written:
        p = prefix(self.content, self.root)
        splices = [(n.start, n.end, b"") for ref, n in self.comments.items() if ref in self.ours]
        splices += self._shortened()
        new: dict[str, str] = {}
        parts: list[bytes] = []
        for ref, saying in said.items():
            if ref not in self.ours and (body := self.bodies.get(ref)):
                run = b'<%sr><%st xml:space="preserve">%s</%st></%sr>'
                splices.append(
                    added(self.content, body, run % (p, p, _plain(f"\n\n{_SIGNED}\n{saying}"), p, p))
                )
                continue
            new[ref] = saying
            parts.append(
                b'<%scomment ref="%s" authorId="%d"><%stext><%st xml:space="preserve">%s</%st></%stext></%scomment>'
                % (p, ref.encode(), self.author, p, p, _plain(f"{_SIGNED}\n{saying}"), p, p, p)
            )
        assert self.list
        assert self.authors
        if parts:
            splices.append(added(self.content, self.list, b"".join(parts)))
            if not self.known:
                author = b"<%sauthor>%s</%sauthor>" % (p, text(STAMP), p)
                splices.append(added(self.content, self.authors, author))
        if not parts and self.ours >= self.comments.keys():
            return _Written(None, new)
        return _Written(spliced(self.content, splices), new)

    def _shortened(self) -> list[tuple[int, int, bytes]]:
        """Comments of the filer's to which an earlier marking had added: wherever our line stands, what follows goes."""
        mark = text(_SIGNED)
        found = []
        for ref, comment in self.comments.items():
            if ref in self.ours or mark not in self.content[comment.start : comment.end]:
                continue
            behind = False
            before: Node | None = None
            for one, run in self.texts.get(ref, ()):
                at = one.inner if behind else self.content.find(mark, one.inner, one.close)
                if at < 0:
                    before = one
                    continue
                kept = self.content[one.inner : at].rstrip()
                found.append((one.inner, one.close, kept) if kept else (run.start, run.end, b""))
                if not behind and not kept and before:
                    found.append(
                        (before.inner, before.close, self.content[before.inner : before.close].rstrip())
                    )
                behind = True
        return found


_PARTS = {"authors", "author", "commentList", "comment", "text", "r", "t"}


def _plain(said: str) -> bytes:
    return text(escaped(said))


def _boxes(content: bytes, gone: set[str], new: Mapping[str, str]) -> bytes:
    """The boxes in which comments are shown. A drawing need not be well-formed, so it is taken as text."""
    places = {_zero(ref) for ref in gone}

    def kept(shape: re.Match[bytes]) -> bytes:
        found = {name: int(number) for name, number in _PLACE.findall(shape[0])}
        place = (found.get(b"Row", -1), found.get(b"Column", -1))
        return b"" if b'ObjectType="Note"' in shape[0] and place in places else shape[0]

    content = _SHAPE.sub(kept, content)
    if not new:
        return content
    last = max([1024, *(int(n) for n in re.findall(rb"_x0000_s(\d+)", content))])
    parts = [] if b'id="_x0000_t202"' in content else [_BOX]
    for number, (ref, said) in enumerate(new.items(), last + 1):
        row, column = _zero(ref)
        height = min(30 + LINE * (sum(len(line) // 24 + 1 for line in said.split("\n"))), MOST)
        rows = -(-height // 15)
        parts.append(
            b'<v:shape id="_x0000_s%d" type="#_x0000_t202" style="position:absolute;width:%dpt;height:%dpt;z-index:1;'
            b'visibility:hidden" fillcolor="#ffffe1" o:insetmode="auto"><v:fill color2="#ffffe1"/>'
            b'<v:shadow on="t" color="black" obscured="t"/><v:path o:connecttype="none"/>'
            b'<v:textbox style="mso-direction-alt:auto"><div style="text-align:left"></div></v:textbox>'
            b'<x:ClientData ObjectType="Note"><x:MoveWithCells/><x:SizeWithCells/>'
            b"<x:Anchor>%d, 15, %d, 2, %d, 15, %d, 2</x:Anchor><x:AutoFill>False</x:AutoFill>"
            b"<x:Row>%d</x:Row><x:Column>%d</x:Column></x:ClientData></v:shape>"
            % (number, WIDTH, height, column + 1, row, column + 5, row + rows, row, column)
        )
    at = content.rindex(b"</")
    return content[:at] + b"".join(parts) + content[at:]


def _zero(ref: str) -> tuple[int, int]:
    row, column = coordinate_to_tuple(ref)
    return row - 1, column - 1
