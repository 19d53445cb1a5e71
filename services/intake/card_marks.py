"""A filer's own Word document with its faults as comments; everything else in it stays as it came.

What the comments say is not decided here (`marking.py`), nor how a card is read (`cards.py`).
"""

import re
from collections.abc import Mapping, Sequence

from services.intake.documents import PART, places_in
from services.intake.office import Node, Package, Splice, added, nodes, prefix, quoted, spliced, text
from services.intake.sheet_marks import STAMP

COMMENTS = "application/vnd.openxmlformats-officedocument.wordprocessingml.comments+xml"
_MAIN = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_POINTERS = {"commentRangeStart", "commentRangeEnd", "commentReference"}


def commented(data: bytes, said: Mapping[str, str]) -> bytes:
    """The document with these comments, by place, and without those of an earlier time. What has no place of its own
    (`""`), or one that is not there, stands at the beginning."""
    package = Package(data)
    home = next((r.target for r in package.related(PART, "comments")), None)
    notes = package.read(home) if home else b'<w:comments xmlns:w="%s"></w:comments>' % _MAIN.encode()
    content, notes = _without(package.read(PART), notes)
    spots = nodes(content, lambda _, name: name in ("p", "tc"))
    at: dict[int, list[str]] = {}
    known = places_in(content)
    for place, saying in said.items():
        at.setdefault(known.get(place, 0), []).append(saying)
    if not spots:
        raise KeyError("p")
    splices, new = _placed(content, notes, spots, at)
    if not at and not home:
        return data
    root = nodes(notes, lambda depth, _: depth == 0)[0]
    notes = spliced(notes, [added(notes, root, new)])
    if home is None:
        home = package.free("word/comments{}.xml")
        package.declare(home, COMMENTS)
        package.relate(PART, "comments", home)
    package.write(home, notes)
    package.write(PART, spliced(content, splices))
    return package.file()


def _placed(
    content: bytes, notes: bytes, spots: Sequence[Node], at: Mapping[int, Sequence[str]]
) -> tuple[list[Splice], bytes]:
    """What each place of the document gets, and the comments to which that points."""
    ids = [int(n) for n in re.findall(rb"""<(?:\w+:)?comment\b[^>]*?:id=["'](\d+)""", notes)]
    number = max(ids, default=-1)
    w = prefix(content, spots[0])
    root = prefix(notes, nodes(notes, lambda depth, _: depth == 0)[0])
    if not w or not root:
        raise KeyError("w:")  # attributes need a prefix; every program writes one
    shapes = nodes(content, lambda _, name: name == "pPr")
    splices: list[Splice] = []
    new: list[bytes] = []
    for place, sayings in sorted(at.items()):
        spot = spots[place]
        paragraph = spot
        if spot.name == "tc":
            inside = [n for n in spots if n.name == "p" and spot.start < n.start < spot.end]
            paragraph = inside[-1] if inside else spot
        if paragraph.name != "p":
            continue  # a cell without a paragraph is none that Word makes
        number += 1
        pointer = b'<%(w)scommentRangeStart %(w)sid="%(n)d"/>' % {b"w": w, b"n": number}
        end = (
            b'<%(w)scommentRangeEnd %(w)sid="%(n)d"/><%(w)sr><%(w)scommentReference %(w)sid="%(n)d"/></%(w)sr>'
            % {b"w": w, b"n": number}
        )
        if paragraph.end == paragraph.inner:
            splices.append(added(content, paragraph, pointer + end))
        else:
            shape = next((n for n in shapes if n.start == paragraph.inner), None)
            begin = shape.end if shape else paragraph.inner
            splices += [(begin, begin, pointer), (paragraph.close, paragraph.close, end)]
        lines = b"".join(
            b'<%(w)sp><%(w)sr><%(w)st xml:space="preserve">%(t)s</%(w)st></%(w)sr></%(w)sp>'
            % {b"w": root, b"t": text(line)}
            for line in "\n".join(sayings).split("\n")
        )
        new.append(
            b'<%(w)scomment %(w)sid="%(n)d" %(w)sauthor="%(a)s" %(w)sinitials="YQ">%(t)s</%(w)scomment>'
            % {b"w": root, b"n": number, b"a": quoted(STAMP), b"t": lines}
        )
    return splices, b"".join(new)


def _without(content: bytes, notes: bytes) -> tuple[bytes, bytes]:
    """Without the comments of an earlier marking, and what points to them."""
    ours = {
        _attribute(n, "id"): n
        for n in nodes(notes, lambda _, name: name == "comment")
        if _attribute(n, "author") == STAMP
    }
    if not ours:
        return content, notes
    found = nodes(content, lambda _, name: name in _POINTERS or name == "r")
    gone: list[Splice] = []
    for node in found:
        if node.name in _POINTERS and _attribute(node, "id") in ours:
            run = next((r for r in found if r.name == "r" and r.start < node.start < r.end), None)
            alone = run and not _says_more(content, run, node)
            gone.append((run.start, run.end, b"") if run and alone else (node.start, node.end, b""))
    return spliced(content, gone), spliced(notes, [(n.start, n.end, b"") for n in ours.values()])


def _says_more(content: bytes, run: Node, node: Node) -> bool:
    """Does a run say anything besides what points to a comment?"""
    rest = content[run.inner : node.start] + content[node.end : run.close]
    return re.search(rb"<(?:\w+:)?(?:t|tab|br|drawing|pict|sym|fldChar)\b", rest) is not None


def _attribute(node: Node, name: str) -> str:
    return next((v for k, v in node.attributes.items() if k.rpartition(":")[2] == name), "")
