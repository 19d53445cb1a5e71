"""What authorities tell of enterprises, by a real intake: on record once, told to other services, or refused."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from services.cli.local import Local
from shared.runtime.embedded import wait_until
from shared.runtime.streams import EVT, IN
from tests.unit.test_enterprises import CITY, HUANGPU, OTHER, TIANHE, shown

DURING = datetime(2025, 9, 15, 3, tzinfo=UTC)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    folder = tmp_path_factory.mktemp("enterprises")
    here = Local(folder, sync_always=False, mail=False, services=("intake",))
    here.clock.write_text(str((DURING - datetime.now(UTC)).total_seconds()))
    with here:
        yield here


def said(local: Local, who: str, name: str, data: dict[str, Any], id_: str, times: int = 1) -> dict[str, Any]:
    """Said, and its answer."""

    async def run() -> dict[str, Any]:
        client = await local.connect(who)
        try:
            answers = await client.subscribe(f"sme.out.v1.{who}.event.*")
            event = {
                "specversion": "1.0",
                "id": id_,
                "source": f"urn:cn:gov:gz:{who}:zxqy",
                "type": f"cn.gov.gz.sme.{name}.v1",
                "time": "2025-09-15T11:00:00+08:00",
                "data": data,
            }
            for _ in range(times):  # without Nats-Msg-Id: the bus stores it each time
                subject = f"sme.in.v1.{who}.{name}"
                await client.jetstream().publish(subject, json.dumps(event).encode(), stream=IN)
            answer = json.loads((await answers.next_msg(10)).data)["data"]
            assert id_ in (answer.get("accepted"), (answer.get("rejected") or {}).get("id"))
            return dict(answer)
        finally:
            await client.close()

    return asyncio.run(run())


def told(local: Local) -> list[dict[str, Any]]:
    """What intake has said to other services."""

    async def read() -> list[dict[str, Any]]:
        client = await local.connect()
        js = client.jetstream()
        last = (await js.stream_info(EVT)).state.last_seq
        found = [json.loads((await js.get_msg(EVT, n)).data or b"") for n in range(1, last + 1)]
        await client.close()
        return found

    return [e for e in asyncio.run(read()) if ".recorded." in e["type"]]  # a notice brings items, too


def kept(local: Local) -> list[str]:
    sql = (
        """select what || '|' || uscc || '|' || district || '|' || "by" from intake.told order by at, what"""
    )
    return local.postgres.sql(sql, "yiqi").split()


def test_it_is_on_record_once_and_told_to_other_services(local: Local) -> None:
    uscc = shown("title.granted")["enterprise"]["uscc"]
    answer = said(local, HUANGPU, "title.granted", shown("title.granted"), str(uuid4()), times=3)
    assert (answer["type"], answer["errors"]) == ("cn.gov.gz.sme.title.granted.v1", [])
    said(local, CITY, "investment.approved", shown("investment.approved"), str(uuid4()))
    wait_until(lambda: len(kept(local)) == 2 and len(told(local)) == 2, 10, "both")
    assert kept(local) == [
        f"title.granted|{uscc}|{HUANGPU}|{HUANGPU}",
        f"investment.approved|{uscc}|{HUANGPU}|{CITY}",
    ]
    one, other = told(local)
    assert (one["type"], other["type"]) == (
        "cn.gov.gz.sme.title.recorded.v1",
        "cn.gov.gz.sme.investment.recorded.v1",
    )
    assert {k: v for k, v in one["data"].items() if k not in ("by", "received")} == shown("title.granted")
    assert (one["data"]["by"], other["data"]["by"]) == (HUANGPU, CITY)
    assert (other["data"]["investment"], other["data"]["equipment"]) == ("1200.5", "865.25")  # to the digit
    data = local.postgres.sql("select data from intake.told where what = 'investment.approved'", "yiqi")
    assert json.loads(data) == shown("investment.approved")


@pytest.mark.parametrize(
    ("who", "name", "change", "status", "codes"),
    [
        (TIANHE, "title.granted", {}, 403, []),
        (HUANGPU, "title.granted", {"enterprise": OTHER}, 422, ["R-GEN-001.check"]),
        (HUANGPU, "title.granted", {"granted_on": "2025-09-16"}, 422, ["date.future"]),
        (HUANGPU, "title.granted", {"title": "unicorn"}, 422, ["schema.literal_error"]),
        (CITY, "investment.approved", {"investment": None, "equipment": None}, 422, ["amount.missing"]),
        (CITY, "investment.approved", {"investment": 1200.5}, 422, ["schema.string_type"]),
    ],
)
def test_what_is_refused_is_told_and_not_kept(
    local: Local, who: str, name: str, change: dict[str, Any], status: int, codes: list[str]
) -> None:
    before = kept(local), told(local)
    answer = said(local, who, name, {**shown(name), **change}, str(uuid4()))
    assert (answer["status"], [e["code"] for e in answer["errors"]]) == (status, codes)
    assert all(e["detail"] and e["detail_en"] for e in answer["errors"])
    assert answer["title_en"]
    assert answer["detail_en"]
    assert (kept(local), told(local)) == before


def test_nobody_changes_what_is_on_record(local: Local) -> None:
    rights = local.postgres.sql(
        "select string_agg(privilege_type, ',' order by privilege_type) from information_schema.role_table_grants "
        "where table_schema = 'intake' and table_name = 'told' and grantee = 'yiqi_intake'",
        "yiqi",
    )
    assert rights.strip() == "INSERT,SELECT"
