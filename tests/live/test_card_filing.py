"""Cards filed as Word documents, by the command line's own way, through the services as processes."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from services.cli.filing import file_package
from services.cli.local import Local
from shared.contracts.submission import Filer
from shared.notices.directory import unlisted
from shared.runtime.embedded import eventually
from tests.documents import CASE, TITLE, case_docx
from tests.scans import pdf

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
