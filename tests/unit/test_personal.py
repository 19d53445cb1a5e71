"""What is contact data, and where it may not come to stand: logs, answers, the catalogue for everybody."""

import ast
import json
import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, get_args

import pytest
from python_calamine import CalamineWorkbook

from services.export import table
from services.export.sheet import catalogue
from services.export.table import PUBLIC, Row, for_everybody
from shared.contracts.personal import redact
from shared.contracts.problem import problem
from shared.contracts.types import Finding
from shared.notices.columns import PERSONAL, Type
from shared.notices.forms import FormJudge
from shared.notices.layout import Form, apart
from shared.notices.load import load, load_all
from shared.notices.model import Notice
from shared.runtime import logs, metrics
from shared.runtime.logs import EXTRA, JsonFormatter
from tests.items import APPLICATION, CLUSTER, COURSE, LECTURE, LOAN

ROOT = Path(__file__).parents[2]
EXAMPLES = [
    load(file).notice
    for file in sorted((ROOT / "tests/examples").rglob("*.yaml"))
    if file.name.startswith(("gz-", "yongping-"))
]
FORMS = [(n, f) for n in [*(one.notice for one in load_all().values()), *EXAMPLES] for f in n.forms]

CALLED = re.compile(
    r"联系人|联系方式|联系电话|电话|手机|固话|传真|邮箱|邮件|微信|QQ|法定代表|法人代表|负责人|填报人|经办人|姓名|身份证|职务"
)
NO_CONTACT = {"服务站负责人学历"}
"""A degree, which a rule asks for: it tells nobody apart once the name is gone."""


def asked(form: Form) -> Iterator[tuple[str, str]]:
    """(key under which it is filed, what the source calls it) of everything that a form asks for."""
    for key, column in form.by_key.items():
        yield key, column.header
    for line in form.lines:
        yield line.key, line.label
    for block in form.blocks.values():
        yield from ((block.key, column.header) for column in block.columns)


@pytest.mark.parametrize(("notice", "form"), FORMS, ids=lambda one: one.id)
def test_what_the_sources_call_a_contact_is_contact_data(notice: Notice, form: Form) -> None:
    called = {key for key, header in asked(form) if CALLED.search(header) and header not in NO_CONTACT}
    assert called == form.personal


def test_control_a_contact_column_of_another_type_would_be_seen() -> None:
    form = next(f for _, f in FORMS if f.id == "F12")
    assert {"legal_rep", "contact_name", "contact_phones", "head_email"} < form.personal
    assert form.card
    data = form.model_dump()
    for section in data["card"]["sections"]:
        for field in section["fields"]:
            if field["key"] == "legal_rep":
                field["type"] = "text"
    forgotten = Form.model_validate(data)
    called = {key for key, header in asked(forgotten) if CALLED.search(header) and header not in NO_CONTACT}
    assert called - forgotten.personal == {"legal_rep"}


def test_a_table_within_a_card_is_kept_apart_as_a_whole() -> None:
    data = next(f for _, f in FORMS if f.id == "F16").model_dump()
    blocks = [b for section in data["card"]["sections"] for b in section["blocks"]]
    blocks[0]["columns"][0]["type"] = "person"
    assert Form.model_validate(data).personal == {blocks[0]["key"]}


@pytest.mark.parametrize(("notice", "form"), FORMS, ids=lambda one: one.id)
def test_nothing_is_lost_when_it_is_put_apart(notice: Notice, form: Form) -> None:
    values = {key: n for n, (key, _) in enumerate(asked(form))} | {"made_up": 1, "extra": {"备用电话": "1"}}
    rest, personal = apart(form, values)
    assert rest | personal == values
    assert not rest.keys() & personal.keys()
    assert personal.keys() == form.personal | {"extra"}
    assert apart(None, values) == ({}, values)


def test_every_type_is_public_or_personal_or_neither_by_decision() -> None:
    assert not PUBLIC & PERSONAL
    assert set(get_args(Type)) - PUBLIC - PERSONAL == {"postcode"}


# --- the catalogue for everybody -----------------------------------------------------------------------

LISTS = [(n, f) for n, f in FORMS if f.card is None and f.report is None]
PLANTED = {"name": "欧阳植入", "phones": ["13900001111"], "email": "planted@example.com"}


def cells(content: bytes) -> str:
    rows = CalamineWorkbook.from_filelike(BytesIO(content)).get_sheet_by_index(0).to_python()
    return "\n".join(str(cell) for row in rows for cell in row)


def planted(form: Form) -> list[Row]:
    of_type = {
        "contact": PLANTED,
        "person": "欧阳植入",
        "phone": "13900001111",
        "email": "planted@example.com",
    }
    types = {**{k: c.type for k, c in form.by_key.items()}, **{one.key: one.type for one in form.lines}}
    values: dict[str, Any] = {
        key: of_type.get(t, ["13900001111"] if t == "phones" else "") for key, t in types.items()
    }
    return [Row("1", datetime(2026, 1, 1, tzinfo=UTC), values)]


@pytest.mark.parametrize(("notice", "form"), LISTS, ids=lambda one: one.id)
def test_the_public_catalogue_names_nobody(notice: Notice, form: Form) -> None:
    told = cells(catalogue(notice, form, planted(form), public=True))
    assert not re.search("欧阳植入|13900001111|planted@", told)
    assert not re.search("联系人|联系方式|联系电话", told)
    assert notice.form_title(form) in told.replace("\n", "")
    assert for_everybody(form).personal == frozenset(form.public)


@pytest.mark.parametrize(("notice", "form"), [(n, f) for n, f in LISTS if f.personal], ids=lambda o: o.id)
def test_control_the_annex_as_it_is_printed_has_the_contacts(notice: Notice, form: Form) -> None:
    assert "13900001111" in cells(catalogue(notice, form, planted(form)))


def test_the_notice_can_want_a_contact_in_the_public_list() -> None:
    notice, form = next((n, f) for n, f in LISTS if f.id == "F3")
    wanting = Form.model_validate({**form.model_dump(), "public": ("contact",)})
    assert "13900001111" in cells(catalogue(notice, wanting, planted(wanting), public=True))
    wrong = Form.model_validate({**form.model_dump(), "public": ("contakt",)})
    assert [path for path, _ in wrong.crossed()] == [("public", 0)]
    # No source prints a public list or card with contacts.
    assert {n.id for n, f in FORMS if f.personal & {*f.public}} == set()


def test_the_two_variants_do_not_share_a_file() -> None:
    notice, form = LISTS[0]
    for name in (table.file_name, table.object_name):
        assert name(notice, form) != name(notice, form, public=True)


# --- what is told back ---------------------------------------------------------------------------------

ITEMS = {"F3": LECTURE, "F5": LOAN, "F7": COURSE, "F8": CLUSTER, "F10-1": APPLICATION}
SECRET = ("13800138000", "020-83726619", "110101199003070011", "zhang.san@example.com")


@pytest.mark.parametrize("secret", SECRET)
def test_a_finding_repeats_no_number_of_a_person(secret: str) -> None:
    text = f"该通知没有表{secret}；现有 F3"
    found = Finding(rule="r", code="c", severity="hard", clause="c", detail=text, pointer=f"#/data/{secret}")
    told = problem("x", "标题", text, [found]).model_dump_json()
    assert secret not in told
    assert redact(redact(text)) == redact(text) != text


def test_what_is_no_number_of_a_person_stays() -> None:
    text = "0191a8c2-7b3e-7c4d-8e5f-0123456789ab 2025-03-03T09:00:00.123456+08:00 91440101MA5XXXXX00 #/data/values/3"
    assert redact(text) == text


@pytest.mark.parametrize(
    ("form", "values"), ITEMS.items(), ids=lambda one: one if isinstance(one, str) else ""
)
def test_a_fault_of_a_contact_does_not_quote_it(form: str, values: dict[str, Any]) -> None:
    """Whatever is wrong with it: what was typed there is repeated nowhere."""
    notice = next(n for n, f in FORMS if f.id == form)
    judge = FormJudge(notice, notice.by_form[form])
    for typed in (
        "欧阳植入",
        "欧阳植入 1390000111",
        "欧阳植入@",
        "欧阳植入 13900001111 x@@y",
        "欧阳植入" * 80,
        "欧阳植入=1+1",
    ):
        wrong = {**values, **dict.fromkeys(notice.by_form[form].personal & values.keys(), typed)}
        said = [f.model_dump_json() for f in judge.judge(wrong).findings]
        assert not re.search("欧阳|1390000111|x@@y", "".join(said)), said


# --- logs ----------------------------------------------------------------------------------------------

LEVELS = {"debug", "info", "warning", "error", "critical", "exception", "log"}


def wrong_logging(source: str) -> list[str]:
    """What a log call says besides a constant and the extras that are listed."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not (
            isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS
        ):
            continue
        owner = node.func.value
        if not (isinstance(owner, ast.Name) and owner.id in ("log", "logger", "logging")):
            continue
        said = node.args[1:] if node.func.attr == "log" else node.args
        if len(said) != 1 or not (isinstance(said[0], ast.Constant) and isinstance(said[0].value, str)):
            found.append(f"line {node.lineno}: the message is no constant")
        for keyword in node.keywords:
            if keyword.arg == "extra":
                if not isinstance(keyword.value, ast.Dict):
                    found.append(f"line {node.lineno}: extra is no literal")
                    continue
                names = [
                    str(key.value) if isinstance(key, ast.Constant) else "?" for key in keyword.value.keys
                ]
                found += [f"line {node.lineno}: {name} is not listed" for name in names if name not in EXTRA]
            elif keyword.arg not in ("exc_info", "stack_info"):
                found.append(f"line {node.lineno}: {keyword.arg} is unknown")
    return found


@pytest.mark.parametrize(
    "module",
    sorted([*(ROOT / "shared").rglob("*.py"), *(ROOT / "services").rglob("*.py")]),
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_a_log_message_is_a_constant_and_its_extras_are_listed(module: Path) -> None:
    """An extra that is needed is added to `shared.runtime.logs.EXTRA`: a code, a count, an id of our own making."""
    assert wrong_logging(module.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "log.info(f'filed by {name}')",
        "log.info('filed by %s', name)",
        "log.info('filed by ' + name)",
        "log.info(message)",
        "log.log(level, f'{x}')",
        "log.error('x', extra={'name': name})",
        "log.error('x', extra={**row})",
        "log.error('x', extra=row)",
        "logging.warning(values)",
    ],
)
def test_control_what_is_not_allowed_in_a_log_is_seen(source: str) -> None:
    assert wrong_logging(source)


def line_of(name: str = "yiqi.test", message: str = "m", args: Any = (), **extra: Any) -> dict[str, Any]:
    record = logging.LogRecord(name, logging.ERROR, "", 0, message, args, None)
    vars(record).update(extra)
    line: dict[str, Any] = json.loads(JsonFormatter("intake").format(record))
    return line


def test_a_field_that_is_not_listed_is_left_out_and_counted() -> None:
    before = metrics.LEFT_OUT._value.get()
    line = line_of(consumer="intake-in", applicant="欧阳植入", values={"contact": "13900001111"})
    assert line["consumer"] == "intake-in"
    assert line["left_out"] == 2
    assert "欧阳植入" not in str(line)
    assert metrics.LEFT_OUT._value.get() - before == 2
    assert "left_out" not in line_of(consumer="intake-in")


def test_of_a_library_only_what_its_source_says_is_logged() -> None:
    assert line_of("asyncio", "Task exception was never retrieved\nfuture: 欧阳植入")["message"].endswith(
        "retrieved"
    )
    assert line_of("nats", "got %s", ("欧阳植入",))["message"] == "got %s"
    assert line_of("yiqi", "started")["message"] == "started"


def test_what_is_listed_and_personal_all_the_same_is_made_unreadable() -> None:
    assert "13900001111" not in str(line_of(detail="13900001111"))
    assert logs.EXTRA.isdisjoint({"name", "values", "body", "address", "phone", "email"})
