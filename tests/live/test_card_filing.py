"""Cards filed as Word documents, by the command line's own way, through the services as processes."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from io import BytesIO
from typing import Any
from uuid import UUID
from zipfile import ZipFile

import asyncpg
import pytest

from services.cli.filing import file_package
from services.cli.local import Local
from services.intake import workbook
from shared.contracts.submission import Filer
from shared.notices.directory import unlisted
from shared.notices.load import load_all
from shared.runtime.embedded import eventually
from tests.documents import CASE, TITLE, case_docx
from tests.items import LECTURE
from tests.scans import pdf
from tests.workbooks import head, xlsx

NOTICE = "gz-collection-2025q1"
DURING = datetime(2025, 3, 3, 2, 0, tzinfo=UTC)
SCAN = ("盖章扫描件.pdf", "scan", pdf())


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    here = Local(tmp_path_factory.mktemp("cards"), sync_always=False)
    here.clock.write_text(str((DURING - datetime.now(UTC)).total_seconds()))
    with here:
        yield here


async def file(local: Local, name: str, document: bytes) -> dict[str, Any]:
    who = Filer(code=unlisted(name).code, kind="K6", name=name)
    client = await local.connect(who.code)
    try:
        contents = [("附件10-1.docx", "workbook", document), SCAN]
        return await file_package(NOTICE, who, contents, client=client)
    finally:
        await client.close()


async def test_a_sound_application_becomes_a_case(local: Local) -> None:
    answer = await file(local, "卡片测试机构一", case_docx(CASE))
    assert answer["errors"] == []
    db = await asyncpg.connect(local.postgres.dsn("yiqi"))
    try:

        async def there() -> Any:
            return await db.fetchrow('select * from review."case" where title = $1', TITLE)

        case = await eventually(there, 15, "the case")
        assert (case["form"], case["stage"], case["direction"]) == ("F10-1", "formal_check", "D09")
        assert UUID(str(case["case"]))
        values = json.loads(case["values"])
        assert (values["org_type"], values["applied_on"], values["declaration_accepted"]) == (
            "民营",
            "2025-03-05",
            True,
        )
    finally:
        await db.close()


async def test_an_application_that_says_too_much_is_refused_with_its_place(local: Local) -> None:
    answer = await file(local, "卡片测试机构二", case_docx(CASE | {"lessons": "长" * 501}))
    assert answer["rejected"]
    assert [(e["rule"], e["severity"], e["sheet"], e["cell"]) for e in answer["errors"]] == [
        ("R-COL-034", "hard", "附件10-1.docx", "正文第21段")
    ]


async def marked(local: Local, name: str) -> bytes:
    """The marked copy of the file of this name, as it is kept and mailed."""
    db = await asyncpg.connect(local.postgres.dsn("yiqi"))
    try:

        async def there() -> Any:
            found = (
                "select body from intake.file where role = 'marked' and name = $1 order by at desc limit 1"
            )
            return await db.fetchval(found, name)

        return bytes(await eventually(there, 15, "the marked copy"))
    finally:
        await db.close()


async def test_a_refused_application_comes_back_with_comments(local: Local) -> None:
    document = case_docx(CASE | {"lessons": "长" * 501})
    assert (await file(local, "卡片测试机构三", document))["rejected"]
    with ZipFile(BytesIO(await marked(local, "附件10-1.docx"))) as copy:
        assert "R-COL-034" in copy.read("word/comments1.xml").decode()


async def test_who_asks_for_faults_only_gets_the_rows_that_were_not_taken(local: Local) -> None:
    compiled = load_all()[NOTICE]
    form = compiled.notice.by_form["F3"]
    sound = [{**LECTURE, "activity_name": f"讲座{n}"} for n in range(3)]
    sound[1]["participants"] = "0"
    rows = [[n, *(row[c.key] for c in form.columns)] for n, row in enumerate(sound, 1)]
    book = xlsx({"附件3": [["附件3"], head(form), *rows]})
    client = await local.connect("440106")
    try:
        who = Filer(code="440106", kind="K2", name="天河区", email="a@example.cn")
        contents = [("附件3-甲.xlsx", "workbook", book), SCAN]
        answer = await file_package(NOTICE, who, contents, client=client, only_faults=True)
        assert answer["accepted"], answer
        (sheet,) = workbook.read(await marked(local, "附件3-甲.xlsx"), "a.xlsx", compiled)
        assert [row.raw["activity_name"] for row in sheet.rows if row.row == 4] == ["讲座1"]
        hard = {f["row"] for f in answer["errors"] if f["severity"] != "info" and f["row"]}
        assert {row.row for row in sheet.rows} == hard
    finally:
        await client.close()
