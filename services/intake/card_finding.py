"""Which cards stand in a document or worksheet, and what of it nobody has read.

A card is known by its labels; its title says where it begins and ends. How it is read: `cards.py`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from services.intake.areas import Area, Spot
from services.intake.card_tables import tell
from services.intake.cards import Reader
from services.intake.divide import Stretch, Titles, divide, is_annex
from services.intake.labels import bare, hits_in, labels_of, names_of, says
from services.intake.sheets import Compiled, Sheet
from shared.contracts.types import Finding, Severity
from shared.notices.model import Form

SURE, LIKELY = 0.6, 0.35
"""Share of a card's labels that makes a document this card, and the share from which it was probably meant."""
MOST_TOLD = 20
"""Of the texts that were not read, each is told with its place; further ones are counted."""


@dataclass
class _Trace:
    """What of a card stands in some areas."""

    form: Form
    areas: list[Area]
    share: float
    body: bool
    """More than its head: `填报人` and `填报时间` stand on many a sheet."""
    missing: list[str]


def read_cards(areas: Sequence[Area], name: str, compiled: Compiled) -> list[Sheet]:
    """The cards in a document or worksheet, a `Sheet` for every form; none when there is no card in it."""
    forms = [form for form in compiled.notice.forms if form.card]
    if all(_trace(form, areas).share < LIKELY for form in forms):
        return []
    titles = Titles(compiled.notice)
    sure, likely, lists, loose = _sort(forms, divide(areas, titles), titles)
    readers = [Reader(trace.form, trace.areas, name, compiled, titles) for trace in sure]
    sheets = [reader.read() for reader in readers]
    seen = {id_ for reader in readers for id_ in reader.seen}
    for trace, reader, sheet in zip(sure, readers, sheets, strict=True):
        sheet.findings[:0] = _unread(trace, reader, seen, name)
        seen |= {id(spot) for area in trace.areas for spot in area.spots}
    if sure:
        apart = [s for area in loose for s in area.spots if id(s) not in seen and says(s.text)]
        if apart := [spot for spot in apart if not is_annex(spot.text)]:
            sheets[0].findings.insert(0, _apart(sure[0].form, name, apart))
        sheets += [_unread_list(stretch, name) for stretch in lists]
    return sheets + [_half(trace, name, beside=bool(sure)) for trace in likely]


def _sort(
    forms: Sequence[Form], stretches: Sequence[Stretch], titles: Titles
) -> tuple[list[_Trace], list[_Trace], list[Stretch], list[Area]]:
    """Cards that are there, cards that were probably meant, lists, and what stands under no title."""
    loose: list[Area] = []
    lists: list[Stretch] = []
    titled: dict[str, list[Area]] = {}
    for stretch in stretches:
        if stretch.form is not None and stretch.form.card:
            titled.setdefault(stretch.form.id, []).extend(stretch.areas)
        elif stretch.form is not None and all(_trace(form, stretch.areas).share < SURE for form in forms):
            if any(says(s.text) and s is not stretch.title for area in stretch.areas for s in area.spots):
                lists.append(stretch)
        else:  # a card may have been given the wrong label
            loose += stretch.areas
    sure: list[_Trace] = []
    likely: list[_Trace] = []
    for form in forms:
        if form.id in titled:
            trace = _trace(form, titled[form.id])
            if loose and (whole := _trace(form, [*loose, *trace.areas])).share > trace.share:
                trace, loose = whole, []  # the title stands in the middle of it
            if trace.share >= SURE:
                sure.append(trace)
            elif any(says(s.text) and not titles.is_part(s.text, form) for a in trace.areas for s in a.spots):
                likely.append(trace)
    besides: set[str] = set()
    rest = [form for form in forms if form.id not in titled]
    while rest and loose:  # under no title: the labels of one card are not those of another as well
        trace = max((_trace(form, loose, besides) for form in rest), key=lambda found: found.share)
        if trace.share >= SURE:
            sure.append(trace)
        elif trace.share >= LIKELY:
            likely.append(trace)
        if trace.share < SURE:
            break
        rest.remove(trace.form)
        besides |= {core for label in labels_of(trace.form) for core in label.cores}
    likely = [trace for trace in likely if sure or trace.share >= LIKELY]
    return sorted(sure, key=lambda trace: forms.index(trace.form)), likely, lists, loose


def _trace(form: Form, areas: Sequence[Area], besides: set[str] | frozenset[str] = frozenset()) -> _Trace:
    """How much of what the card prints stands in these areas. A block that nobody must fill in may be missing."""
    assert form.card
    labels = [label for label in labels_of(form) if not besides.intersection(label.cores)]
    blocks = [block for _, block in form.card.blocks()]
    found: set[str] = set()
    for area in areas:
        for spot in area.spots:
            if not (text := spot.text):
                continue
            if len(text) <= 2000 or any(label.pattern.match(text) for label in labels):
                found |= {hit.label.pattern.pattern for hits in hits_in(text, labels) for hit in hits}
            if len(text) <= 100 and blocks:
                found |= {block.key for block in blocks if bare(text) in names_of(block)}
    head = 0 if len(form.card.sections) > 1 and form.card.sections[0].title is None else -1
    wanted = {label.pattern.pattern for label in labels} | {block.key for block in blocks if block.required}
    wanted |= found
    inner = {label.pattern.pattern for label in labels if label.section != head} | {b.key for b in blocks}
    outer = {label.pattern.pattern for label in labels if label.section == head} - inner
    body = bool(found - outer)
    missing = [
        f"“{label.column.header}”"
        for label in labels
        if label.column and label.column.required and label.pattern.pattern not in found
    ]
    missing += [f"“{block.title}”" for block in blocks if block.required and block.key not in found]
    if not missing and not body:
        missing = ["或".join(f"“{block.title}”" for block in blocks)]
    return _Trace(form, list(areas), len(found) / len(wanted) if body and wanted else 0.0, body, missing)


def _half(trace: _Trace, name: str, *, beside: bool) -> Sheet:
    """Beside a card that is there, one of which only the head is left does not keep it back."""
    form = trace.form
    say = f"“{name}”像是{form.annex}，但没有找到：{'、'.join(filter(None, trace.missing))}；请使用模板填报"
    severity: Severity = "hard" if trace.body or not beside else "soft"
    return Sheet(name, findings=[_general(tell(form, name, "workbook.header", severity, say))])


def _general(finding: Finding) -> Finding:
    return finding.model_copy(update={"rule": "workbook"})


def _unread_list(stretch: Stretch, name: str) -> Sheet:
    assert stretch.form
    assert stretch.title
    say = f"{stretch.form.annex}是清单，不从卡片式附件的文件中读取；请用模板（.xlsx）另行填报"
    return Sheet(
        name, findings=[tell(stretch.form, name, "card.list", "soft", say, cell=stretch.title.place)]
    )


def _unread(trace: _Trace, reader: Reader, seen: set[int], name: str) -> Iterator[Finding]:
    """Whatever was written and is not in what was read, each with its place. What stands before the first label, such
    as a letter, is told once."""
    spots = [spot for area in trace.areas for spot in area.spots if says(spot.text)]
    first = next((i for i, spot in enumerate(spots) if id(spot) in reader.labelled), 0)
    unread = [spot for spot in spots if id(spot) not in seen]
    if before := [spot for spot in spots[:first] if id(spot) not in seen]:
        yield _apart(trace.form, name, before)
        unread = unread[len(before) :]
    for spot in unread[:MOST_TOLD]:
        yield tell(trace.form, name, "card.unread", "soft", f"{spot.place}的内容没有读取", cell=spot.place)
    for spot in unread[MOST_TOLD : MOST_TOLD + 1]:
        say = f"自{spot.place}起，还有{len(unread) - MOST_TOLD}处内容没有读取"
        yield tell(trace.form, name, "card.unread", "soft", say, cell=spot.place)
    for spot in reader.partly:
        say = f"{spot.place}中标签以外的文字没有读取"
        yield tell(trace.form, name, "card.unread", "soft", say, cell=spot.place)


def _apart(form: Form, name: str, spots: Sequence[Spot]) -> Finding:
    say = f"{spots[0].place}起的{len(spots)}处内容不属于{form.annex}，没有读取"
    return tell(form, name, "card.unread", "info", say, cell=spots[0].place)
