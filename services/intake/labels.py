"""The labels of a card as they are found in a document: blanks inside, other brackets, no numbering, a value in
the same cell.

What is done with the value is not here (`cards.py`).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from shared.notices.cards import Block, Card, Labelled
from shared.notices.columns import Column
from shared.notices.model import Form
from shared.notices.values import narrow, same

AROUND = " \t\n\u3000_＿"
"""Blanks, and the line that a form draws for a value."""

_BRACKETS = re.compile(r"[（(][^（）()]*[）)]")
_NUMBER = r"(?:[（(][一二三四五六七八九十\d]{1,3}[)）]|[一二三四五六七八九十\d]{1,3}\s*[、.．])\s*"
_NUMBERED = re.compile(rf"^\s*{_NUMBER}(?=\D)")
_BLANK = re.compile(r"[（(]\s*[)）]")

SERIAL = {"序号", "编号", "序", "no", "no."}
"""Headers of a column that nobody is asked for."""
NUMBERING = re.compile(r"[\d.、()（）①-⑳一二三四五六七八九十]*")
NOTE = re.compile(r"\s*[*＊※]?\s*(?:备注|注|附注|(?:填表|填报|填写)?说明)\s*\d*\s*[:：]")


@dataclass(frozen=True)
class Label:
    """A place that a card asks about, and how its label reads. `column` is None for a mark (a signature)."""

    section: int
    column: Column | None
    pattern: re.Pattern[str]
    cores: tuple[str, ...]
    """Words without which the pattern need not be tried."""
    order: int

    @property
    def key(self) -> str:
        return self.column.key if self.column else f"mark {self.order}"

    @property
    def below(self) -> bool:
        return isinstance(self.column, Labelled) and self.column.below

    @property
    def guidance(self) -> tuple[str, ...]:
        return self.column.guidance if isinstance(self.column, Labelled) else ()


@dataclass(frozen=True)
class Hit:
    """A label found in a text. `inside` is what is written into the label itself, None for one without such a place."""

    label: Label
    start: int
    end: int
    inside: str | None


def says(text: str) -> bool:
    """Is anything written there? Lines, boxes and full stops alone are not."""
    return any(c.isalnum() for c in text)


def is_blank_within(label: str) -> bool:
    """Is the value written into the label itself, as in `专职（ ）人`?"""
    return _BLANK.search(label) is not None


def bare(text: str) -> str:
    """A heading without numbering, brackets, blanks and colon: how two spellings of it are compared."""
    plain = same(_BRACKETS.sub("", narrow(text)))
    return _NUMBERED.sub("", plain)


@cache
def loose(text: str) -> str:
    """A pattern for a text with blanks anywhere and letters of either width."""
    return r"\s*".join(_either(c) for c in re.sub(r"\s", "", text))


def _either(char: str) -> str:
    other = {"（": "(", "）": ")", "：": ":", "，": ",", "；": ";", "／": "/"}.get(char)
    if other is None and char.isascii():
        other = chr(ord(char) + 0xFEE0) if "!" <= char <= "~" else char
    return re.escape(char) if other is None else f"[{re.escape(char)}{re.escape(other)}]"


def _pattern(spelling: str) -> str:
    """`名称：…`, `姓 名`, `统一社会信用代码（18位）`; a number before it is not needed, a bracket neither."""
    if _BLANK.search(spelling):
        before, _, after = re.sub(_BLANK, "\0", spelling, count=1).partition("\0")
        lead, colon, last = re.sub("[：:]", ":", before).rpartition(":")
        optional = f"(?:{loose(lead)}\\s*[：:]?\\s*)?" if colon else ""
        return rf"{optional}{loose(last)}\s*[（(_]+(?P<in>[^）)_]{{0,60}})[）)_]+\s*{loose(after)}"
    core = _NUMBERED.sub("", _BRACKETS.sub("", spelling)).rstrip("：: ")
    return (
        rf"(?:^|(?<=[\s；;，,。|]))(?:(?:{_NUMBER})?{loose(core)})"
        rf"\s*(?:[（(][^（）()]*[）)]\s*)?(?:[：:]|(?=\n)|$)"
    )


def labels_of(form: Form) -> list[Label]:
    """Every label of the card in printed order."""
    assert form.card
    found: list[Label] = []
    for s, section in enumerate(form.card.sections):
        for column in section.fields:
            spellings = "|".join(
                f"(?:{_pattern(text).replace('(?P<in>', f'(?P<in{i}>')})"
                for i, text in enumerate((column.header, *column.aliases))
            )
            found.append(
                Label(
                    s,
                    column,
                    re.compile(spellings),
                    tuple(map(_core, (column.header, *column.aliases))),
                    len(found),
                )
            )
        found += (
            Label(s, None, re.compile(_pattern(mark.label)), (_core(mark.label),), len(found) + i)
            for i, mark in enumerate(section.marks)
        )
    return found


def _core(spelling: str) -> str:
    lead = _BLANK.split(spelling)[0] if _BLANK.search(spelling) else spelling
    return _squeezed(_NUMBERED.sub("", _BRACKETS.sub("", re.split("[：:](?=.)", lead)[-1])).rstrip("：: "))


def _squeezed(text: str) -> str:
    return re.sub(r"\s", "", narrow(text)).casefold()


def hits_in(text: str, labels: Sequence[Label]) -> list[list[Hit]]:
    """The labels in a text, from left to right; several that read alike at one place are its candidates."""
    plain = _squeezed(text)
    likely = [label for label in labels if any(core in plain for core in label.cores)]
    matches = sorted(
        ((m, label) for label in likely for m in label.pattern.finditer(text)),
        key=lambda found: (found[0].start(), -found[0].end(), found[1].order),
    )
    groups: list[list[tuple[re.Match[str], Label]]] = []
    for match, label in matches:
        if groups and match.start() < groups[-1][0][0].end():
            first = groups[-1][0][0]
            if (match.start(), match.end()) == (first.start(), first.end()):
                groups[-1].append((match, label))
            continue
        groups.append([(match, label)])
    return [[Hit(label, m.start(), m.end(), _inside(m)) for m, label in group] for group in groups]


def _inside(match: re.Match[str]) -> str | None:
    found = [text for name, text in match.groupdict().items() if name.startswith("in")]
    return "".join(filter(None, found)).strip() if found else None


def behind(text: str, hits: Sequence[Hit]) -> list[str]:
    """What stands behind each of the labels that were taken, up to the next of them: a label that is none here is
    part of what stands before it."""
    ends = [*(hit.start for hit in hits[1:]), len(text)]
    return [text[hit.end : end].strip(AROUND + "；;") for hit, end in zip(hits, ends, strict=True)]


def clean(text: str, label: Label) -> str:
    """A value without what the form itself prints there, and without the line drawn for it."""
    text = text.strip(AROUND)
    header = label.column.header if label.column else ""
    for printed in (*label.guidance, *_BRACKETS.findall(header)):
        if len(printed) > 2:
            text = re.sub(rf"^\s*{loose(printed)}\s*", "", text)
            end = max(
                0, len(text) - 4 * len(printed) - 40
            )  # never the whole: long blanks would take for ever
            text = text[:end] + re.sub(rf"\s*{loose(printed)}\s*$", "", text[end:])
    return text.strip(AROUND)


def titles_of(card: Card) -> dict[str, int]:
    """Headings of sections → their number."""
    return {bare(s.title): i for i, s in enumerate(card.sections) if s.title}


def _lettered(text: str) -> str:
    """`时间/地点` and `时间、地点` are `时间地点`."""
    return re.sub(r"\W", "", same(text))


_SPELLED = (same, bare, _lettered)


def spellings_of(columns: Sequence[Column]) -> dict[str, str]:
    """Every accepted spelling of a header → key; exact ones win."""
    known: dict[str, str] = {}
    for spell in _SPELLED:
        for column in columns:
            for text in (column.header, *column.aliases):
                known.setdefault(spell(text), column.key)
    return known


def headers_in(texts: Sequence[tuple[int, str]], known: Mapping[str, str]) -> dict[str, int]:
    """Which column of the document holds which of `spellings_of`, by the words of one row."""
    found: dict[str, int] = {}
    for at, text in texts:
        if len(text) <= 60 and (
            key := next((k for spell in _SPELLED if (k := known.get(spell(text)))), None)
        ):
            found.setdefault(key, at)
    return found


def names_of(block: Block) -> set[str]:
    return {bare(block.title), *map(bare, block.aliases)}
