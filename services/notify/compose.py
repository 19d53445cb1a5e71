"""A letter that is owed, as the bytes of one mail: the same letter always gives the same bytes.

Which letters are owed is not here, that is `owed.py`; nor are their words, those are in `templates.py`, nor the wire,
that is `smtp.py`.
"""

import re
from base64 import encodebytes
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime
from email.header import Header
from email.headerregistry import Address
from email.message import EmailMessage
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

from jinja2 import TemplateError

from services.notify import dates
from services.notify.address import mailbox
from services.notify.headers import POLICY
from services.notify.owed import Owed
from services.notify.templates import Letters, Written
from services.notify.words import cut

SHANGHAI = ZoneInfo("Asia/Shanghai")

SUBJECT_LIMIT = 120
NAME_LIMIT = 100
VALUE_LIMIT = 4000
LIST_LIMIT = 200
FILE_NAME_LIMIT = 80

DOMAIN = re.compile(r"[a-z0-9]([a-z0-9.-]{0,80}[a-z0-9])?")
# Line breaks stay; what could forge a header, hide text or turn its direction does not.
INVISIBLE = re.compile(
    r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)

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


def compose(
    owed: Owed,
    *,
    letters: Letters,
    message_id_domain: str,
    sender: Address,
    date: datetime,
    files: Mapping[str, bytes] | None = None,
    reply_to: str | None = None,
    unsubscribe: str | None = None,
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
    kept = dates.files(owed, params, date, sender, message_id_domain)
    written = render(owed, letters, date, calendar_file=next((k.name for k in kept if k.ahead), None))

    message = EmailMessage(policy=POLICY)
    message["From"] = sender
    if reply_to:
        message["Reply-To"] = Address(addr_spec=mailbox(reply_to))
    # An Address object, never a joined string: a name with a comma would become a second recipient.
    message["To"] = Address(_line(owed.to_name, NAME_LIMIT), addr_spec=mailbox(owed.address))
    message["Subject"] = _line(written.subject, SUBJECT_LIMIT)
    message["Date"] = date
    # Raw: the header classes wrap a long id in an encoded word, and then it is no id any more.
    message.set_raw("Message-ID", f"<m-{owed.mail}@{message_id_domain}>")
    if owed.case is not None:
        for header in ("In-Reply-To", "References"):
            message.set_raw(header, f"<case-{owed.case}@{message_id_domain}>")
    message.set_raw("Auto-Submitted", "auto-generated")
    message.set_raw("X-Auto-Response-Suppress", "All")
    message.set_raw("Precedence", "bulk")
    if unsubscribe and owed.letter in letters.optional:
        _unsubscribable(message, owed, unsubscribe, message_id_domain)
    message.set_content(written.text, cte="base64")
    message.add_alternative(written.html, subtype="html", cte="base64")
    for attached in owed.attachments:
        if files is None or attached.sha256 not in files:
            raise MissingAttachment(attached.sha256)
        name = _file_name(attached.name)
        type_ = TYPES.get(name.rpartition(".")[2].lower(), "application/octet-stream")
        _attach(message, name, type_, files[attached.sha256])
    for one in kept:
        _attach(message, one.name, f"text/calendar; charset=utf-8; method={one.method}", one.content)
    # Last: a part that is added takes every Content-… header of the whole with it.
    message.set_raw("Content-Language", "zh-CN")
    for i, part in enumerate(p for p in message.walk() if p.is_multipart()):
        # Otherwise random, and a mail that is composed again would be another mail.
        part.set_boundary(f"=_{owed.mail.hex}_{i}")
    return message


def render(owed: Owed, letters: Letters, at: datetime, *, calendar_file: str | None = None) -> Written:
    """The letter in words."""
    try:
        written = letters.write(owed.letter, context(owed, letters, at, calendar_file))
    except (TemplateError, LookupError, TypeError) as error:
        # Params of a release whose letters asked for other values.
        raise Unwritable(f"{owed.letter}: {error}") from error
    return replace(written, text=re.sub(r"\n{3,}", "\n\n", written.text).strip() + "\n")


def context(owed: Owed, letters: Letters, at: datetime, calendar_file: str | None = None) -> dict[str, Any]:
    """What a template may use."""
    params = _tame(owed.params)
    today = at.astimezone(SHANGHAI).date()
    found = {
        **_values(owed.to_name, params, today),
        "attachments": [_file_name(a.name) for a in owed.attachments],
        "calendar_file": calendar_file,
    }
    if "items" in params:
        found["items"] = [_item(one, letters, today) for one in params["items"]]
    return found


def _values(to_name: str, params: Mapping[str, Any], today: date) -> dict[str, Any]:
    due_on = params["due"] and date.fromisoformat(params["due"]["date"])
    return {
        "note": "",
        **params,
        "to_name": _line(to_name, NAME_LIMIT),
        "attachments": [],
        "today": today,
        # Counted when the letter is written, not when it was planned: this is what the reader compares with.
        "left": (due_on - today).days if due_on else None,
        "calendar_file": None,
    }


def _item(one: Mapping[str, Any], letters: Letters, today: date) -> dict[str, Any]:
    """A letter as one item of a digest, in its own words."""
    values = _values(one["to_name"], one["params"], today)
    return {**values, **letters.blocks(one["letter"], values, ("what", "next"))}


def _unsubscribable(message: EmailMessage, owed: Owed, unsubscribe: str, domain: str) -> None:
    """RFC 8058: one click is a POST to an address that says nothing of who is asked about but the mail's id."""
    message["List-Id"] = f"<{owed.letter.replace('_', '-')}.{domain}>"
    if unsubscribe.startswith("https://"):
        glue = "&" if "?" in unsubscribe else "?"
        message.set_raw("List-Unsubscribe", f"<{unsubscribe}{glue}mail={owed.mail}>")
        message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    else:
        message.set_raw("List-Unsubscribe", f"<mailto:{mailbox(unsubscribe)}?subject={owed.mail}>")


def _attach(message: EmailMessage, name: str, type_: str, content: bytes) -> None:
    """RFC 2231 for the standard, RFC 2047 in `name` for older clients.

    All headers are written raw: the header classes encode even the long media type of a workbook, fold
    the name into continuations that some clients do not join, and turn RFC 2047 back into RFC 2231.
    """
    part = EmailMessage(policy=POLICY)
    part.set_raw("Content-Type", f'{type_};\r\n name="{_encoded_words(name)}"')
    part.set_raw("Content-Disposition", f"attachment;\r\n filename*=utf-8''{quote(name, safe='')}")
    part.set_raw("Content-Transfer-Encoding", "base64")
    part.set_payload(encodebytes(content).decode("ascii"))
    if message.get_content_subtype() != "mixed":
        message.make_mixed()
    message.attach(part)


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
        return cut(INVISIBLE.sub("", value), VALUE_LIMIT)
    if isinstance(value, Mapping):
        return {key: _tame(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_tame(v) for v in value[:LIST_LIMIT]]
    return value


def _line(text: str, limit: int) -> str:
    """For a header. The header classes decode what looks like an RFC 2047 word, and write what comes out as
    it is: a Bcc line, or a second recipient. So nothing that a person typed may look like one."""
    return cut(" ".join(INVISIBLE.sub(" ", text).replace("=?", "= ?").split()), limit)
