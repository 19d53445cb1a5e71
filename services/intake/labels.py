"""The labels of a card as they are found in a document: blanks inside, other brackets, no numbering, a value in
the same cell.

What is done with the value is not here (`cards.py`).
"""

import re
from collections.abc import Iterator, Sequence
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
    """A label found in a text, with what stands behind it up to the next one."""

    label: Label
    start: int
    end: int
    value: str


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
    found = []
    for i, group in enumerate(groups):
        until = groups[i + 1][0][0].start() if i + 1 < len(groups) else len(text)
        found.append([Hit(label, m.start(), m.end(), _value(m, text[m.end() : until])) for m, label in group])
    return found


def _value(match: re.Match[str], behind: str) -> str:
    inside = [text for name, text in match.groupdict().items() if name.startswith("in") and text is not None]
    return inside[0].strip() if inside else behind.strip(AROUND + "；;")


def is_inside(hit: Hit) -> bool:
    """The value stands in the middle of the label, and nowhere else: `专职（ ）人`."""
    return any(name.startswith("in") for name in hit.label.pattern.groupindex)


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


def headers_in(texts: Sequence[tuple[int, str]], columns: Sequence[Column]) -> dict[str, int]:
    """Which column of the document holds which of these, by the words of one row."""
    known: dict[str, str] = {}
    for spell in (same, bare):
        for column in columns:
            for text in (column.header, *column.aliases):
                known.setdefault(spell(text), column.key)
    found: dict[str, int] = {}
    for at, text in texts:
        if len(text) <= 60 and (key := known.get(same(text)) or known.get(bare(text))):
            found.setdefault(key, at)
    return found


def names_of(block: Block) -> set[str]:
    return {bare(block.title), *map(bare, block.aliases)}


def every_title(forms: Sequence[Form], fill: dict[str, str]) -> Iterator[tuple[str, Form]]:
    """What stands over a card, and whose it is; `fill` gives the printed title of each."""
    for form in forms:
        for text in (fill[form.id], form.title_in_notice, *form.aliases):
            yield same(_BRACKETS.sub("", text)), form
