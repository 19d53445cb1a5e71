"""A letter that is owed, as the bytes of one mail: the same letter always gives the same bytes.

Which letters are owed is not here, that is `owed.py`; nor is the wire, that is `smtp.py`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from email.header import Header
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from importlib import resources
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

from jinja2 import PackageLoader, StrictUndefined, Template, TemplateError, select_autoescape
from jinja2.sandbox import ImmutableSandboxedEnvironment

from services.notify.address import mailbox
from services.notify.owed import Attached, Owed
from shared.contracts.types import Severity

SHANGHAI = ZoneInfo("Asia/Shanghai")
POLICY = SMTP.clone(refold_source="none")  # keeps what `set_raw` wrote

SUBJECT_LIMIT = 120
NAME_LIMIT = 100
VALUE_LIMIT = 4000
LIST_LIMIT = 200
CHANGE_LIMIT = 200
FILE_NAME_LIMIT = 80

DOMAIN = re.compile(r"[a-z0-9]([a-z0-9.-]{0,80}[a-z0-9])?")
# Line breaks stay; what could forge a header, hide text or turn its direction does not.
INVISIBLE = re.compile(
    r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)

DERIVED = "（系统默认，非通知规定）"
PROVISIONAL = "（暂定，以当年放假安排公布后的日期为准）"
SEVERITY: dict[Severity, str] = {"hard": "须改正", "soft": "请核对", "info": "说明"}
PARTS = ("subject.txt", "body.txt", "body.html")
TYPES = {
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "pdf": "application/pdf",
}
ELSEWHERE = re.compile(
    "北京|天津|上海|重庆|河北|山西|内蒙古|辽宁|吉林|黑龙江|江苏|浙江|安徽|福建|江西|山东|河南|湖北|湖南"
    "|广西|海南|四川|贵州|云南|西藏|陕西|甘肃|青海|宁夏|新疆|香港|澳门|台湾"
)


class Unwritable(ValueError):
    """The letter cannot be written from what the ledger holds, and no further try would change that."""


class ForeignSignature(Unwritable):
    """The letter would be signed by a body outside Guangzhou (R-GEN-013): a corrupt source (ODD-01)."""


class MissingAttachment(Unwritable):
    """A letter is sent with all that it announces, or not at all."""


@dataclass(frozen=True, slots=True)
class _Templates:
    subject: Template
    text: Template
    html: Template


def day(iso: str | date, weekday: bool = True) -> str:
    """2025年3月7日（星期五）: Arabic numerals, no leading zeros (GB/T 9704)."""
    when = date.fromisoformat(iso) if isinstance(iso, str) else iso
    name = f"（星期{'一二三四五六日'[when.weekday()]}）" if weekday else ""
    return f"{when.year}年{when.month}月{when.day}日{name}"


def due(params: Mapping[str, Any]) -> str:
    """A date to keep, with what is uncertain about it and what is ours."""
    last = day(params["date"])
    if params["at"]:
        # A printed hour is part of the date: 2019年6月18日17时（星期二）.
        last = last.replace("（", f"{hour(params['at'])}（")
    text = f"{day(params['from'])}至{last}" if params["from"] else f"{last}截止"
    if params["rest_day"]:
        text += "，当日为休息日，日期不顺延"
    if params["provisional"]:
        text += PROVISIONAL
    return text + (DERIVED if params["derived"] else "")


def hour(text: str) -> str:
    """`17:00` as 17时, `12:30` as 12时30分."""
    hours, minutes = map(int, text.split(":"))
    return f"{hours}时" + (f"{minutes}分" if minutes else "")


def countdown(left: int) -> str:
    if left > 0:
        return f"还有{left}天"
    return {0: "今天截止", -1: "已于昨天截止"}.get(left, f"已过期{-left}天")


def until(params: Mapping[str, Any]) -> str:
    """The last day of a title or of a public notice: nothing has to be done on it, so no weekday."""
    text = day(params["date"], weekday=False) + (PROVISIONAL if params["provisional"] else "")
    return text + (DERIVED if params["derived"] else "")


def period(text: str) -> str:
    """What a report is about: a year, a quarter (`2025-1`), or the day of a change."""
    if re.fullmatch(r"\d{4}", text):
        return f"{text}年"
    if quarter := re.fullmatch(r"(\d{4})-([1-4])", text):
        return f"{quarter[1]}年第{'一二三四'[int(quarter[2]) - 1]}季度"
    return day(text, weekday=False) if re.fullmatch(r"\d{4}-\d\d-\d\d", text) else text


def when(duty: Mapping[str, Any]) -> str:
    """By when a duty is owed, again and again; `since` is what has to be done before it begins."""
    since = duty["since"]
    if duty["yearly"]:
        month, last = map(int, duty["yearly"].split("-"))
        text = "每年2月底前" if (month, last) == (2, 29) else f"每年{month}月{last}日前"
    elif duty["quarterly"]:
        text = "每季度末前"
    else:
        entered = "变更为市局得知" if duty["after"] == "change" else since or "列入名单"
        text = f"{entered}之日起{duty['days']}日内"
    if since and duty["after"] != "entry":
        text = f"{since}之后，{text}"
    return text + (DERIVED if duty["derived"] else "")


def numbers(sheet: Mapping[str, Any]) -> str:
    """The numbers that people read out; of a long sheet the first, and how many there are."""
    first: list[str] = sheet["numbers"]
    # Reports for several quarters may tell of one case.
    shown = "、".join(dict.fromkeys(first))
    return shown + (f"等{sheet['accepted']}项" if sheet["accepted"] > len(first) else "")


def changed(params: Mapping[str, Any]) -> str:
    if params["hidden"]:
        return "（已修改）"
    before, after = (_cut(params[key], CHANGE_LIMIT) for key in ("before", "after"))
    if not before:
        return f"新填写“{after}”"
    return f"由“{before}”改为“{after}”" if after else f"删去“{before}”"


def _environment() -> ImmutableSandboxedEnvironment:
    env = ImmutableSandboxedEnvironment(
        loader=PackageLoader("services.notify", "letters"),
        undefined=StrictUndefined,
        autoescape=select_autoescape(enabled_extensions=("html",), default=False),
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    env.filters |= {"day": day, "due": due, "countdown": countdown, "severity": SEVERITY.__getitem__}
    env.filters |= {"until": until, "period": period, "when": when, "changed": changed, "numbers": numbers}
    env.globals["DERIVED"] = DERIVED
    return env


def _compiled() -> dict[str, _Templates]:
    env = _environment()
    folders = (f for f in (resources.files(__package__) / "letters").iterdir() if f.is_dir())
    names = sorted(f.name for f in folders if not f.name.startswith("_"))
    return {
        name: _Templates(
            *(env.get_template(f"{name}/{part}") for part in ("subject.txt", "body.txt", "body.html"))
        )
        for name in names
    }


_LETTERS = _compiled()
LETTERS = tuple(_LETTERS)
"""Every letter that can be written."""


def compose(
    owed: Owed,
    *,
    message_id_domain: str,
    sender: Address,
    date: datetime,
    files: Mapping[str, bytes] | None = None,
) -> EmailMessage:
    """`files` holds the content of the attachments by SHA-256. Raises `BadAddress` or `Unwritable`, which no
    further try would heal. To be written by `as_bytes()` as it is: with another policy the generator
    folds again, and breaks the headers that are raw here for good reason."""
    if not DOMAIN.fullmatch(message_id_domain):
        raise ValueError(f"not a domain for a Message-ID: {message_id_domain!r}")
    params = _tame(owed.params)
    signature = params["issuer"] + params["unit"]
    if ELSEWHERE.search(signature + sender.display_name):
        raise ForeignSignature(signature)
    subject, text, html = _render(owed, params, date)

    message = EmailMessage(policy=POLICY)
    message["From"] = sender
    # An Address object, never a joined string: a name with a comma would become a second recipient.
    message["To"] = Address(_line(owed.to_name, NAME_LIMIT), addr_spec=mailbox(owed.address))
    message["Subject"] = subject
    message["Date"] = date
    # Raw: the header classes wrap a long id in an encoded word, and then it is no id any more.
    message.set_raw("Message-ID", f"<m-{owed.mail}@{message_id_domain}>")
    if owed.case is not None:
        for header in ("In-Reply-To", "References"):
            message.set_raw(header, f"<case-{owed.case}@{message_id_domain}>")
    message["Auto-Submitted"] = "auto-generated"
    message["X-Auto-Response-Suppress"] = "All"
    message.set_content(text, cte="base64")
    message.add_alternative(html, subtype="html", cte="base64")
    for attached in owed.attachments:
        if files is None or attached.sha256 not in files:
            raise MissingAttachment(attached.sha256)
        _attach(message, attached, files[attached.sha256])
    # Last: a part that is added takes every Content-… header of the whole with it.
    message["Content-Language"] = "zh-CN"
    for i, part in enumerate(p for p in message.walk() if p.is_multipart()):
        # Otherwise random, and a mail that is composed again would be another mail.
        part.set_boundary(f"=_{owed.mail.hex}_{i}")
    return message


def _render(owed: Owed, params: Mapping[str, Any], at: datetime) -> tuple[str, str, str]:
    today = at.astimezone(SHANGHAI).date()
    context = _context(owed.to_name, params, today)
    context["attachments"] = [_file_name(a.name) for a in owed.attachments]
    try:
        if "items" in params:
            context["items"] = [_item(one, today) for one in params["items"]]
        templates = _LETTERS[owed.letter]
        subject = _line(templates.subject.render(context), SUBJECT_LIMIT)
        text = re.sub(r"\n{3,}", "\n\n", templates.text.render(context)).strip() + "\n"
        return subject, text, templates.html.render(context, subject=subject)
    except (TemplateError, LookupError, TypeError) as error:
        # Params of a release whose letters asked for other values.
        raise Unwritable(f"{owed.letter}: {error}") from error


def _context(to_name: str, params: Mapping[str, Any], today: date) -> dict[str, Any]:
    due_on = params["due"] and date.fromisoformat(params["due"]["date"])
    return {
        "note": "",
        **params,
        "to_name": _line(to_name, NAME_LIMIT),
        "attachments": [],
        "today": today,
        # Counted when the letter is written, not when it was planned: this is what the reader compares with.
        "left": (due_on - today).days if due_on else None,
    }


def _item(one: Mapping[str, Any], today: date) -> dict[str, Any]:
    """A letter as one item of a digest, in its own words."""
    context = _context(one["to_name"], one["params"], today)
    template = _LETTERS[one["letter"]].text
    said = template.new_context(context)
    words = {block: "".join(template.blocks[block](said)).strip() for block in ("what", "next")}
    return {**context, **words}


def _attach(message: EmailMessage, attached: Attached, content: bytes) -> None:
    """RFC 2231 for the standard, RFC 2047 in `name` for older clients.

    Both headers are written raw: the header classes encode even the long media type of a workbook, fold
    the name into continuations that some clients do not join, and turn RFC 2047 back into RFC 2231.
    """
    name = _file_name(attached.name)
    message.add_attachment(content, maintype="application", subtype="octet-stream")
    *_, part = message.iter_attachments()
    assert isinstance(part, EmailMessage)  # for mypy: it was added in the line above
    del part["Content-Type"], part["Content-Disposition"]
    type_ = TYPES.get(name.rpartition(".")[2].lower(), "application/octet-stream")
    part.set_raw("Content-Type", f'{type_};\r\n name="{_encoded_words(name)}"')
    part.set_raw("Content-Disposition", f"attachment;\r\n filename*=utf-8''{quote(name, safe='')}")


def _encoded_words(text: str) -> str:
    return Header(text, "utf-8", maxlinelen=70).encode(linesep="\r\n")


def _file_name(name: str) -> str:
    """As it may stand in a header and on the reader's disk; the suffix survives the cut."""
    plain = re.sub(r'[/\\:*?"<>|]', "_", _line(name, 10 * FILE_NAME_LIMIT)).lstrip(".") or "附件"
    stem, dot, suffix = plain.rpartition(".")
    if not dot or len(suffix) > 10:
        return plain[:FILE_NAME_LIMIT]
    return f"{stem[: FILE_NAME_LIMIT - len(suffix) - 1]}.{suffix}"


def _tame(value: Any) -> Any:
    """Values that people typed, without control characters and no longer than a reader could want."""
    if isinstance(value, str):
        return _cut(INVISIBLE.sub("", value), VALUE_LIMIT)
    if isinstance(value, Mapping):
        return {key: _tame(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_tame(v) for v in value[:LIST_LIMIT]]
    return value


def _line(text: str, limit: int) -> str:
    """For a header. The header classes decode what looks like an RFC 2047 word, and write what comes out as
    it is: a Bcc line, or a second recipient. So nothing that a person typed may look like one."""
    return _cut(" ".join(INVISIBLE.sub(" ", text).replace("=?", "= ?").split()), limit)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
