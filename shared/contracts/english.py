"""What every fault and problem is in English, by its code, for engineers of other systems.

The Chinese sentence beside it is the one that counts, and says more. Rules of a notice are official text, which nobody
translates here: they are named by id and clause, unless the notice itself has an English sentence.
"""

import re
from collections.abc import Iterable

from shared.contracts.types import Finding

_RULE = re.compile(r"[A-Z]+-[A-Z0-9-]+")

FAULTS = {
    # The contract: types of pydantic.
    "schema.missing": "A required field is missing.",
    "schema.extra_forbidden": "There is no such field; check the spelling.",
    "schema.extra": "The form has no such field; its fields are in the schema of the form.",
    "schema.text": "Must be a text, not a list or an object.",
    "schema.string_type": "Must be a text.",
    "schema.string_too_long": "The text is too long.",
    "schema.string_too_short": "The text must not be empty.",
    "schema.string_pattern_mismatch": "The text does not match the pattern in the schema.",
    "schema.null_character": "A text must not contain U+0000.",
    "schema.string_unicode": "The text is not valid Unicode.",
    "schema.int_type": "Must be an integer.",
    "schema.int_parsing": "Must be an integer.",
    "schema.int_from_float": "Must be an integer.",
    "schema.int_parsing_size": "The integer is too large.",
    "schema.bool_type": "Must be true or false.",
    "schema.decimal_type": "Must be a number.",
    "schema.decimal_parsing": "Must be a number.",
    "schema.finite_number": "Must be a finite number.",
    "schema.greater_than": "The number is too small.",
    "schema.greater_than_equal": "The number is too small.",
    "schema.less_than": "The number is too large.",
    "schema.less_than_equal": "The number is too large.",
    "schema.date_type": "Must be a date, as 2025-03-07.",
    "schema.date_parsing": "Must be a date, as 2025-03-07.",
    "schema.date_from_datetime_parsing": "Must be a date, as 2025-03-07.",
    "schema.date_from_datetime_inexact": "Must be a date without a time, as 2025-03-07.",
    "schema.datetime_type": "Must be an RFC 3339 time with an offset, as 2025-03-07T09:00:00+08:00.",
    "schema.datetime_parsing": "Must be an RFC 3339 time with an offset, as 2025-03-07T09:00:00+08:00.",
    "schema.datetime_from_date_parsing": "Must be an RFC 3339 time with an offset, as 2025-03-07T09:00:00+08:00.",
    "schema.timezone_aware": "The time must have an offset, as +08:00.",
    "schema.uuid_type": "Must be a UUID.",
    "schema.uuid_parsing": "Must be a UUID.",
    "schema.literal_error": "Not one of the values that are allowed.",
    "schema.json_invalid": "This is not valid JSON.",
    "schema.model_type": "Must be an object.",
    "schema.dict_type": "Must be an object.",
    "schema.tuple_type": "Must be an array.",
    "schema.list_type": "Must be an array.",
    "schema.too_short": "The array has too few items.",
    "schema.too_long": "The array has too many items.",
    "schema.value_error": "The value is not allowed.",
    # The HTTP door.
    "type": "There is no such type of event for publishers.",
    "header": "A ce- header stands once, in ASCII; other characters are percent-encoded UTF-8.",
    # Who files, what, and on which way.
    "notice.unknown": "There is no such notice.",
    "notice.closed": "The notice takes no filings now.",
    "identity.code": "An agency files in its own name only: filer.code must be the publisher.",
    "identity.unknown": "The filer is not in the directory; a service institution that recommends itself uses the code made from its name.",
    "identity.kind": "The directory has another kind for this filer.",
    "identity.name": "The name of the filer differs from the directory.",
    "recommender": "The recommender must be an agency of the directory that may recommend.",
    "route": "The form must be filed by the other way: with a recommender, or without one.",
    "form.unknown": "The notice has no such form.",
    "form.kind": "Filers of this kind do not file this form.",
    "direction.unknown": "The notice has no such direction.",
    "direction.form": "Items of this direction are filed on another form.",
    "material.unknown": "The notice asks for no such material.",
    "late": "Filed after the deadline of the notice.",
    "case.unknown": "The case that is named is not known.",
    "case.ambiguous": "Several cases have this name; give the number of the case.",
    "case.foreign": "The case belongs to another agency.",
    "case.continued": "A later form has been filed for this case; this one is not taken any more.",
    "case.ended": "The case has ended.",
    "case.elsewhere": "The case is with another recommender; only when returned it may be filed with a new one.",
    "report.unknown": "The case that is reported on is not known.",
    "report.ambiguous": "Several cases have this name; give the number of the case.",
    # Values of a row.
    "missing": "A required value is missing.",
    "limit": "The text is longer than the form allows or advises.",
    "least": "The number is below the least that the form allows.",
    "at_least_one": "The number must be at least 1.",
    "not_negative": "The number must not be negative.",
    "number": "Must be one number.",
    "number.unit": "The number must be in the unit that the form prints, without the unit.",
    "number.size": "The number is too large; check the unit.",
    "number.whole": "Must be a whole number.",
    "date": "Must be a date that exists.",
    "date.order": "The end is before the start.",
    "date.future": "The date must not be after the day of the report.",
    "months.order": "The lower bound of the term is above the upper one.",
    "F5.10": "The lower bound of the rate is above the upper one.",
    "flag": "Must be yes (是) or no (否).",
    "list.closed": "Not one of the choices of the form.",
    "list.several": "Only one choice is allowed.",
    "list.other": "Not one of the listed choices; taken as 其他 (other).",
    "list.unnamed": "The choice 其他 (other) needs a name.",
    "conditional": "The value is required under a condition that the form states; check whether it applies.",
    "contact.name": "The name of the contact person is missing or too long.",
    "R-GEN-001.length": "The unified social credit code must have 18 characters.",
    "R-GEN-001.alphabet": "The unified social credit code has characters that are not used (I, O, S, V, Z).",
    "R-GEN-001.check": "The check character of the unified social credit code is wrong.",
    "R-GEN-003": "Not a valid telephone number.",
    "R-GEN-004": "Not a valid e-mail address.",
    "R-GEN-005": "The postcode must have 6 digits.",
    "district.unknown": "There is no such district.",
    "amount.missing": "At least one of the amounts must be given.",
    # Workbooks and documents.
    "workbook.annex": "The sheet is an annex that this notice does not take as a table.",
    "workbook.archive": "The file is an archive and no spreadsheet.",
    "workbook.blank": "The file is empty.",
    "workbook.bomb": "The file is too large when unpacked, or has too many parts.",
    "workbook.column": "A column of the form is missing in the header row.",
    "workbook.crash": "The file could not be read.",
    "workbook.csv": "The file is CSV; use the template (.xlsx).",
    "workbook.damaged": "The file is damaged.",
    "workbook.dde": "The file has formulas or fields that call other programs or addresses.",
    "workbook.dtd": "The file has a DTD.",
    "workbook.empty": "The sheet has no rows.",
    "workbook.encrypted": "The file is protected by a password.",
    "workbook.external": "The file refers to other files.",
    "workbook.header": "The header row of the form was not found.",
    "workbook.hidden": "A hidden sheet was not read.",
    "workbook.html": "The file is a web page and no spreadsheet.",
    "workbook.ignored": "The sheet belongs to no form and was not read.",
    "workbook.image": "The file is an image and no spreadsheet.",
    "workbook.label": "The sheet is labelled as another annex than its header row is of; it was read by the header row.",
    "workbook.long": "The file has more than can be read.",
    "workbook.macros": "The file has macros.",
    "workbook.memory": "Reading the file takes too much memory.",
    "workbook.names": "A part of the file has a strange name.",
    "workbook.nested": "The file has other files in it.",
    "workbook.ole": "The file has embedded objects.",
    "workbook.other": "The sheet belongs to no form of this notice.",
    "workbook.overlap": "Parts of the file overlap.",
    "workbook.pdf": "The file is a PDF and no spreadsheet.",
    "workbook.polyglot": "The file hides another file.",
    "workbook.round": "The sheet is of another round.",
    "workbook.rows": "The sheet has too many rows.",
    "workbook.sheets": "The file has too many sheets, or one with too long a name.",
    "workbook.size": "The file is too large.",
    "workbook.slides": "The file is a presentation and no spreadsheet.",
    "workbook.sparse": "The file has too many cells or too much text.",
    "workbook.timeout": "Reading the file takes too long.",
    "workbook.unknown": "The file is no spreadsheet.",
    "workbook.word": "The Word document cannot be read as a form.",
    "workbook.xlsb": "The file is .xlsb; save it as .xlsx.",
    "workbook.xml": "The file is XML and no .xlsx.",
    "card.list": "The form is a list, which is not read from such a document; file it by the template (.xlsx).",
    "card.rows": "What follows this row was not read; file it in several files.",
    "card.unread": "A part of the document was not read.",
    "cell.date": "The spreadsheet program took the value for a date; format the cell as text.",
    "template.changed": "The template is an older one of the form.",
    "template.notice": "The template is of another notice.",
    "package.rows": "The package has too many rows.",
    "package.sheets": "The package has too many sheets.",
    # Files.
    "file.missing": "The file was not received, or not completely; send it again, then file again.",
    "scan.active": "The file has active content.",
    "scan.bomb": "The file is too large when unpacked.",
    "scan.damaged": "The file is damaged or incomplete.",
    "scan.embedded": "The file has other files in it.",
    "scan.encrypted": "The file is protected by a password.",
    "scan.kind": "The file is no PDF, JPG or PNG.",
    "scan.pixels": "The image is too large.",
    "scan.polyglot": "The file hides another file.",
    "scan.size": "The file is too large.",
    "scan.unclear": "The file cannot be judged to be safe.",
    # Decisions and scores.
    "ground": "The decision must name the grounds (rule ids).",
    "fixes": "A return must list what to correct.",
    "fixes.field": "The form has no such field.",
    "acknowledges": "A soft finding must be acknowledged first.",
    "panel": "The panel has not scored yet.",
    "judgements": "A condition that a person judges has not been judged.",
    "judgements.not_met": "A condition that must be met was judged as not met.",
    "score.criteria": "Every criterion must be scored, and no other.",
    "score.range": "The score is outside its range.",
    "conflict.employer": "The expert works for the applicant and must abstain.",
    "conflict.district": "The expert is of the district of the case and must abstain.",
    "conflict.declared": "The expert has declared an interest and must abstain.",
    "held": "The mail is not held; nothing was done to it.",
    "more": "More decisions failed than are listed.",
}

PROBLEMS = {
    "事件不符合接口契约": ("The event does not fit its contract", ""),
    "问题不符合接口契约": ("The question does not fit its contract", ""),
    "事件类型与主题不符": (
        "The event's type is not that of its subject",
        "Publish each type on its own subject.",
    ),
    "发布者与主题不符": (
        "The event's source is not the publisher of its subject",
        "source must be urn:cn:gov:gz:<publisher>:<system>, with the publisher token of the subject.",
    ),
    "同一 id 的事件内容不同": (
        "An event with this id and other content was handled already",
        "Use a new id for new content; a retry must be byte for byte the same.",
    ),
    "系统处理失败": (
        "The event could not be handled",
        "Our people have it; there is no need to send it again.",
    ),
    "暂时不能答复": ("No answer can be given now", "Ask again in a moment."),
    "不予受理": ("Not accepted", ""),
    "无权办理": ("Not authorised", "This agency may not do this; detail says who may."),
    "没有这个通知": ("No such notice", "Check the id of the notice."),
    "没有装载这个通知": (
        "The notice is not loaded",
        "The notice of the case is not loaded, or has no longer the stage that the case is in.",
    ),
    "没有这个项目": ("No such case", "No case with this id is known."),
    "没有这张表": ("No such form", "The notice has no such form."),
    "这张表不印目录": ("No catalogue of this form", "Cards are kept one by one and make no catalogue."),
    "没有这项事由": ("No such ground", "ground must be the id of one of the notice's grounds."),
    "日期有误": ("Wrong date", "The day of what is reported must not be after the report."),
    "本阶段不能这样办理": (
        "Not possible in this stage",
        "The procedure does not allow this in the case's stage.",
    ),
    "尚未到办理的时间": ("Too early", "This may be done only when the term nears its end."),
    "项目已有变化": ("The case has changed", "version is not that of the case now; look at it again."),
    "办理意见不完整": ("The decision is incomplete", ""),
    "评分不能采用": ("The score cannot be used", ""),
    "内容不能再改": ("The content is frozen", "The case is in a stage in which it cannot be changed."),
    "经办人不属于本单位": (
        "Not an officer of this agency",
        "officer is not among the agency's listed codes.",
    ),
    "没有待定的办理决定": ("No such held decisions", "There is no such batch, or it was settled already."),
    "批号已经用过": (
        "The id was used already",
        "Another batch of this agency is held under it; use a new id.",
    ),
    "没有一项可以办理": ("None of the decisions can be made", ""),
    "没有留存的邮件": ("No such held mail", "There is no such mail, or it was settled already."),
    "多写了 text": ("text is not allowed here", "text is for the action edit only."),
    "没有这个单位": ("No such agency", "The directory has no agency with this code."),
    "任期不对": ("Wrong term", "until is before since."),
    "已有更新的登记": ("A newer entry exists", "Use a higher version."),
    "电子邮箱不可用": (
        "The e-mail address cannot be used",
        "It is not valid, or belongs to another district.",
    ),
    # The HTTP door.
    "没有证明是哪个单位": (
        "Not authenticated",
        "Show your agency's bearer token or its client certificate.",
    ),
    "没有这个地址": ("No such address", "The addresses are in /openapi.json."),
    "此地址没有这种方法": ("No such method here", "The methods are in /openapi.json."),
    "请求不受理": ("The request was not taken", "See /openapi.json."),
    "参数不正确": ("A parameter is wrong", ""),
    "没有按时传完": ("Too slow", "The request must be sent within a minute."),
    "事件过大": ("The event is too large", "Send files with PUT /files/{sha256} first and refer to them."),
    "文件过大": ("The file is too large", "A file has at most 20 MiB."),
    "内容类型不受理": (
        "Unsupported media type",
        "One event a request, UTF-8, not compressed: application/cloudevents+json, or application/json with ce- headers. "
        "Files as they are.",
    ),
    "内容与地址不符": ("Other content", "The SHA-256 of the content must be that of the address."),
    "同时的请求过多": ("Too many requests at a time", "Wait for some of yours to be answered."),
    "服务出错": ("Internal error", "Send it again later with the same id; it is never handled twice."),
    "总线暂不可用": (
        "The bus is away",
        "It is not known to be stored; send it again with the same id, it is never handled twice.",
    ),
    "不受理此版本的事件": (
        "No release handles this version",
        "It was kept and is discarded; send it in a version that is published, under a new id.",
    ),
    "": ("", ""),
}
"""Title and detail by the Chinese title; without a detail the number of faults is told."""


def sentence(finding: Finding) -> str:
    """What kind of fault it is; always something, and for a code that we emit never the last resort."""
    code = finding.code
    if known := FAULTS.get(code):
        return known
    if _RULE.fullmatch(code):
        return f"Rule {finding.rule} of the notice is not met (clause {finding.clause})."
    if code.startswith("schema."):
        return "The value does not fit the contract."
    if told := _BY_KIND.get(code):
        return told
    return f"See the Chinese sentence: {code}, clause {finding.clause}."


_BY_KIND: dict[str, str] = {
    # What a single decision of many, or a single mail, was refused for: the kinds of problems.
    "authority": "This agency may not do this.",
    "procedure": "The procedure does not allow this in the case's stage, or not yet.",
    "version": "The case has changed since it was looked at.",
    "incomplete": "The decision is incomplete.",
    "notice": "The notice of the case is not loaded.",
    "case": "No case with this id is known.",
}


def in_english(found: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(
        one if one.detail_en is not None else one.model_copy(update={"detail_en": sentence(one)})
        for one in found
    )


def problem_in_english(title: str, faults: int) -> tuple[str | None, str | None]:
    """Title and detail; nothing of a title that is not known here."""
    if title not in PROBLEMS:
        return None, None
    said, detail = PROBLEMS[title]
    return said, detail or f"{faults} fault{'' if faults == 1 else 's'}, see errors."
