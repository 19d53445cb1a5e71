"""Which stretch of a document is which annex's, by the titles and annex labels that stand between them.

What a stretch says is not here (`cards.py`).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from services.intake.areas import Area, Spot
from shared.notices.model import Form, Notice
from shared.notices.values import same

_ANNEX = re.compile(r"附件\d+(?:-\d+)?(?:号|(?!\d))[:、.]?")
_TITLE = re.compile(r".{5}(?:[表单书]|目录)$")
"""Which other names of an annex are titles. `检验检测` is one for a worksheet, and a line in somebody's answer."""
_QUOTES = re.compile("[\"'“”‘’「」『』《》]")
_DASHES = re.compile("[—–‐‑−]")


def plain(text: str) -> str:
    """A title without what people leave out or write otherwise: blanks, quotes, brackets, the kind of dash."""
    return _QUOTES.sub("", _DASHES.sub("-", re.sub(r"\([^()]*\)", "", same(text))))


def is_annex(text: str) -> bool:
    """`附件`, `附件3`: says nothing of what follows."""
    return len(text) <= 20 and re.fullmatch(r"附[件表]\d*(?:-\d+)?[:、.]?", plain(text)) is not None


@dataclass
class Stretch:
    """What stands from the titles of one annex to those of the next; before the first one there is no form."""

    form: Form | None
    areas: list[Area] = field(default_factory=list)
    title: Spot | None = None


class Titles:
    """What the annexes of a notice are called, lists included: whatever follows the title of one is its own, even
    where nobody could read it."""

    def __init__(self, notice: Notice) -> None:
        names: dict[str, set[str]] = {}
        self.parts: dict[str, set[str]] = {}
        """Lines of a title that is printed in several, by form: they name no annex by themselves."""
        for form in notice.forms:
            printed = [notice.round.fill(text) for text in (form.title, form.title_in_notice)]
            aliases = {name for text in form.aliases if _TITLE.search(name := plain(text))}
            names[form.id] = {plain(text) for text in (form.annex, *printed)} | aliases
            self.parts[form.id] = names[form.id] | {plain(part) for text in printed for part in text.split()}
        self.forms = {form.id: form for form in notice.forms}
        self.owner: dict[str, str] = {
            name: id_
            for id_, own in names.items()
            for name in own
            if not any(_within(name, other) for o, theirs in names.items() if o != id_ for other in theirs)
        }

    def of(self, text: str) -> Form | None:
        """Whose title a text is, if it is nothing else. `附件9-2 企业推荐表` counts as `企业推荐表`."""
        if len(text) > 120:
            return None
        name = plain(text)
        id_ = self.owner.get(name) or self.owner.get(_ANNEX.sub("", name, count=1))
        return self.forms[id_] if id_ else None

    def is_part(self, text: str, form: Form) -> bool:
        """A title of this form, or a line of it, also one that another form shares."""
        if len(text) > 120:
            return False
        name = plain(text)
        return name in self.parts[form.id] or _ANNEX.sub("", name, count=1) in self.parts[form.id]

    def of_row(self, row: Sequence[Spot]) -> Form | None:
        """A title stands alone in its row: beside a label it is somebody's answer."""
        texts = [spot.text for spot in row if spot.text]
        if not 0 < len(texts) <= 3:
            return None
        first = self.of(texts[0])
        return first if first and all(self.is_part(text, first) for text in texts[1:]) else None


def _within(name: str, other: str) -> bool:
    """Is one name (the beginning of) another? `附件10` stands over 附件10-1 as well; `附件1` does not."""
    return name == other or (other.startswith(name + "-") if _ANNEX.fullmatch(name) else name in other)


def divide(areas: Sequence[Area], titles: Titles) -> list[Stretch]:
    found = [Stretch(None)]
    for area in areas:
        spots: list[Spot] = []
        cut = False
        for row in area.rows():
            form = titles.of_row(row)
            if form is not None and form is not found[-1].form:
                if spots:
                    found[-1].areas.append(Area(spots, area.table))
                found.append(Stretch(form, title=next(spot for spot in row if spot.text)))
                spots, cut = [], True
            spots += row
        if spots:
            found[-1].areas.append(Area(spots, area.table) if cut else area)
    return found
