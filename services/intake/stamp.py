"""Which blank form a filed one was made from: written into every template, recognised in what comes back.

A file without a stamp is judged as it is; what is done with its content is not decided here.
"""

import hashlib
import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.parsers.expat import ExpatError
from zipfile import BadZipFile

from services.intake.attachments import visible
from services.intake.office import Package, nodes
from services.intake.sheets import Compiled, Sheet
from shared.contracts.types import Finding, Severity
from shared.notices.model import Form, Notice

PROPERTY, TITLE = "yiqi", "通知"
"""Properties of the file: what it was made from, and the notice in words."""
NAME = "_yiqi"
"""A hidden name of the worksheet: it goes along when a sheet is copied into another workbook."""
_UNSEEN = {"width", "serial_width", "landscape", "public", "computed", "rule", "field", "clause"}
_UNSEEN |= {"printed", "ticked", "aside"}
"""What nobody who fills in a form can tell."""
_STAMP = re.compile(r'"?([a-z0-9][a-z0-9-]{2,60})/(F[\d-]{1,10})/([0-9a-f]{12})"?')
MOST_TITLE = 120


@dataclass(frozen=True)
class Stamp:
    notice: str
    form: str
    digest: str
    title: str = ""

    def __str__(self) -> str:
        return f"{self.notice}/{self.form}/{self.digest}"


@dataclass(frozen=True)
class Stamps:
    """Those of a file: of the whole, and of each worksheet."""

    whole: Stamp | None
    sheets: Mapping[str, Stamp]

    def of(self, sheet: Sheet, alone: bool) -> Stamp | None:
        if sheet.sheet in self.sheets:
            return self.sheets[sheet.sheet]
        if self.sheets or not self.whole:
            return None
        return self.whole if alone or sheet.form == self.whole.form else None


def stamp_of(form: Form, notice: Notice) -> Stamp:
    """The digest is of what the form asks for, in which round; an optional addition to the model changes none."""
    lists = {
        name: notice.lists[name].model_dump(mode="json", exclude_defaults=True) for _, name in form.lists()
    }
    content = [_seen(form.model_dump(mode="json", exclude_defaults=True)), _seen(lists)]
    said = json.dumps([*content, notice.form_title(form)], ensure_ascii=False, sort_keys=True).encode()
    digest = hashlib.blake2b(said, digest_size=6).hexdigest()
    return Stamp(notice.id, form.id, digest, notice.title)


def _seen(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _seen(one) for key, one in value.items() if key not in _UNSEEN}
    return [_seen(one) for one in value] if isinstance(value, list) else value


def stamps_in(data: bytes) -> Stamps:
    """Also after Excel, WPS or LibreOffice has saved it; whatever cannot be understood is no stamp."""
    try:
        package = Package(data)
        properties = dict(_properties(package))
        return Stamps(
            _stamp(properties.get(PROPERTY, ""), properties.get(TITLE, "")),
            {name: s for name, said in _names(package) if (s := _stamp(said, properties.get(TITLE, "")))},
        )
    except (BadZipFile, KeyError, ValueError, ExpatError):
        return Stamps(None, {})


def _stamp(said: str, title: str) -> Stamp | None:
    found = _STAMP.fullmatch(said.strip())
    return Stamp(found[1], found[2], found[3], visible(title)[:MOST_TITLE]) if found else None


def _properties(package: Package) -> Iterable[tuple[str, str]]:
    for part, name in (("docProps/custom.xml", "property"), ("meta.xml", "user-defined")):
        if not package.has(part):
            continue
        content = package.read(part)
        for node in nodes(content, lambda _, one, name=name: one == name):  # type: ignore[misc]
            key = next((v for k, v in node.attributes.items() if k.rpartition(":")[2] == "name"), "")
            yield key, _plain(content[node.inner : node.close])


def _names(package: Package) -> Iterable[tuple[str, str]]:
    """The names of ours that belong to a worksheet."""
    for relation in package.related("", "officeDocument"):
        content = package.read(relation.target)
        found = nodes(content, lambda depth, name: depth == 2 and name in ("sheet", "definedName"))
        sheets = [n.attributes["name"] for n in found if n.name == "sheet"]
        for node in found:
            at = node.attributes.get("localSheetId", "")
            if node.attributes["name"] == NAME and at.isdigit() and int(at) < len(sheets):
                yield sheets[int(at)], _plain(content[node.inner : node.close])


def _plain(content: bytes) -> str:
    return html.unescape(re.sub(rb"<[^>]*>", b"", content).decode(errors="replace")).strip()


# --- what is said of it ------------------------------------------------------------------------------------------


def told(sheets: Sequence[Sheet], stamps: Stamps, compiled: Compiled) -> None:
    """Of every sheet that was not made from the form as it is now: which form it was made from."""
    read = [sheet for sheet in sheets if sheet.form]
    for sheet in read or sheets[:1]:
        if stamp := stamps.of(sheet, alone=len(read) <= 1):
            finding = _finding(sheet, stamp, compiled.notice)
            sheet.findings[:0] = [finding] if finding else []


def _finding(sheet: Sheet, stamp: Stamp, notice: Notice) -> Finding | None:
    form = notice.by_form.get(stamp.form)
    if stamp.notice != notice.id:
        named = f"《{stamp.title}》" if stamp.title else ""
        said = f"这份表是通知{named}（{stamp.notice}）的模板，不是本通知的"
        return _say(sheet, notice, "template.notice", "soft", said)
    if form is None:
        return _say(sheet, notice, "template.changed", "soft", f"本通知现在没有这份模板的表（{stamp.form}）")
    if stamp.digest == stamp_of(form, notice).digest:
        return None
    missing = any(f.code == "workbook.column" for f in sheet.findings)
    severity: Severity = "info" if sheet.form == stamp.form and not missing else "soft"
    return _say(
        sheet, notice, "template.changed", severity, f"这份表用的是{form.annex}的旧模板，表样后来有修改"
    )


def _say(sheet: Sheet, notice: Notice, code: str, severity: Severity, said: str) -> Finding:
    annex = notice.by_form[sheet.form].annex if sheet.form else ""
    then = f"已按本通知的{annex}读取，请核对" if sheet.form else "请用本通知现行的模板填报"
    return Finding(
        rule="template",
        code=code,
        severity=severity,
        clause=notice.clause_name,
        detail=f"{said}；{then}",
        sheet=sheet.sheet,
    )
