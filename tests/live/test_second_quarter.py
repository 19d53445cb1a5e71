"""A new quarter is a file: the second-quarter notice runs through the services without a line of code."""

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.cli.filing import publish
from services.cli.local import Local
from shared.contracts import registry
from shared.contracts.submission import Filer, SubmissionFiled
from shared.runtime.embedded import wait_until

NOTICE = "gz-collection-2025q2"
FILE = Path(__file__).parents[1] / "examples" / f"{NOTICE}.yaml"
ROW = {
    "company_name": "某某科技有限公司",
    "contact": "示例 020-83726619",
    "product_name": "排产助手",
    "problem_analysis": "排产靠经验",
    "scenario": "多品种小批量",
    "product_brief": "轻量排产",
    "application_scenarios": "机加工车间",
}


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    here = tmp_path_factory.mktemp("q2")
    (here / "notices").mkdir()
    shutil.copy(FILE, here / "notices")
    services = ("intake", "review", "notify")
    with Local(here / "run", extra={"YIQI_NOTICES": str(here / "notices")}, services=services) as running:
        yield running


def file(local: Local, form: str, values: dict[str, Any], direction: str | None = None) -> dict[str, Any]:
    async def ask() -> dict[str, Any]:
        client = await local.connect("440104")
        filer = Filer(code="440104", kind="K2", name="越秀区商务局")
        data = SubmissionFiled(notice=NOTICE, form=form, filer=filer, values=values, direction=direction)
        try:
            return await publish(client, "440104", registry.SUBMISSION_FILED, data, data.model_dump_json())
        finally:
            await client.close()

    return asyncio.run(ask())


def test_a_row_with_the_new_column_becomes_a_case(local: Local) -> None:
    answer = file(local, "F4", {**ROW, "price": "免费"})
    assert "accepted" in answer, json.dumps(answer, ensure_ascii=False)
    number = answer["number"]
    wait_until(
        lambda: local.postgres.sql(
            f"select stage from review.case where number = '{number}'", "yiqi"
        ).strip(),
        15,
    )


def test_the_direction_that_is_gone_is_refused(local: Local) -> None:
    answer = file(local, "F4", {**ROW, "product_name": "另一款", "price": "免费"}, direction="D11")
    assert ("R-COL-002", "#/data/direction") in [(e["rule"], e["pointer"]) for e in answer["errors"]]
