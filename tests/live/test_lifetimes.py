"""A title's life over years, by the real services and a moved clock, from an invented city's files alone: what was
due while a service was down happens once, in order, and as of when it was due."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import nats
import pytest

from services.cli.filing import publish
from services.cli.local import Local
from shared.contracts import registry
from shared.contracts.case import DecisionMade
from shared.contracts.submission import Filer, SubmissionFiled
from shared.runtime.embedded import wait_until

EXAMPLES = Path(__file__).parents[1] / "examples" / "yongping"
NOTICE = "yongping-workshops-2026"
AGENCIES = """
- {code: "990100", kind: city, name: 永平市工业局, short: 永平市局, source: 试验}
- {code: "990101", kind: K2, name: 临江区工业局, short: 临江区, district: "990101", source: 试验}
- {code: street-01, kind: K4, name: 临江街道办事处, short: 临江街道, source: 试验}
- {code: head-01, kind: K4, name: 永平工坊总站, short: 工坊总站, source: 试验}
"""


def set_clock(local: Local, now: str) -> None:
    """The services believe that it is then; written at once, as they read it all the time."""
    moment = datetime.fromisoformat(now).replace(tzinfo=UTC)
    draft = local.clock.with_suffix(".new")
    draft.write_text(str((moment - datetime.now(UTC)).total_seconds()))
    draft.replace(local.clock)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    here = tmp_path_factory.mktemp("lives")
    (here / "notices").mkdir()
    (here / "notices" / f"{NOTICE}.yaml").write_bytes((EXAMPLES / f"{NOTICE}.yaml").read_bytes())
    (here / "agencies.yaml").write_text(AGENCIES, encoding="utf-8")
    mounted = {"YIQI_NOTICES": str(here / "notices"), "YIQI_AGENCIES": str(here / "agencies.yaml")}
    running = Local(here / "run", extra=mounted, services=("intake", "review", "notify"), mail=True)
    set_clock(running, "2026-03-02T02:00:00")
    with running:
        running.ready()
        yield running


def ask(local: Local, who: str, type_: registry.EventType, data: Any) -> dict[str, Any]:
    async def asked() -> dict[str, Any]:
        client = await nats.connect(local.nats.url)
        try:
            return await publish(client, who, type_, data, data.model_dump_json())
        finally:
            await client.close()

    return asyncio.run(asked())


def filed(local: Local, name: str) -> UUID:
    data = SubmissionFiled(
        notice=NOTICE,
        form="F1",
        filer=Filer(code="990101", kind="K2", name="临江区工业局", email="linjiang@yongping.example"),
        values={"workshop": name, "brief": "木作", "contact": "示例 020-83726619"},
    )
    answer = ask(local, "990101", registry.SUBMISSION_FILED, data)
    assert "accepted" in answer, answer
    case = UUID(answer["case"])
    wait_until(lambda: stage(local, case) == "street", 15, "the case")
    return case


def decide(local: Local, case: UUID, outcome: str, who: str, *rules: str) -> dict[str, Any]:
    return ask(
        local,
        who,
        registry.DECISION_MADE,
        DecisionMade(case=case, outcome=outcome, reason="理由", rules=rules),
    )


def stage(local: Local, case: UUID) -> str:
    return local.postgres.sql(f"""select stage from review."case" where "case" = '{case}'""", "yiqi").strip()


def history(local: Local, case: UUID) -> list[list[str]]:
    """(outcome, actor, day in Guangzhou) of every step."""
    rows = local.postgres.sql(
        "select outcome, actor, (at at time zone 'Asia/Shanghai')::date from review.history "
        f"""where "case" = '{case}' order by version""",
        "yiqi",
    )
    return [line.split("|") for line in rows.split()]


def told(local: Local, case: UUID) -> list[str]:
    """What the bus was told of the case, by version."""

    async def read() -> list[dict[str, Any]]:
        client = await nats.connect(local.nats.url)
        js = client.jetstream()
        last = (await js.stream_info("SME_EVT")).state.last_seq
        found = [json.loads((await js.get_msg("SME_EVT", n)).data or b"") for n in range(1, last + 1)]
        await client.close()
        return found

    events = [e for e in asyncio.run(read()) if e["data"].get("case") == str(case) and "version" in e["data"]]
    return [e["type"].split(".")[-2] for e in sorted(events, key=lambda e: e["data"]["version"])]


def test_years_pass_while_nobody_looks(local: Local) -> None:
    case = filed(local, "百年木作")
    assert "accepted" in decide(local, case, "pass", "street-01")
    assert decide(local, case, "propose", "990100")["status"] == 403  # the city is not the district
    assert "accepted" in decide(local, case, "propose", "990101")
    assert stage(local, case) == "notice"
    local.kill("review")
    set_clock(local, "2029-01-08T02:00:00")
    local.launch("review")
    wait_until(lambda: stage(local, case) == "lapsed", 30, "all that was due")
    # Five working days from Monday the 2nd end with the 9th; two years from the 10th with the 10th.
    assert history(local, case)[-2:] == [
        ["recognise", "clock", "2026-03-10"],
        ["expire", "clock", "2028-03-11"],
    ]
    wait_until(lambda: len(told(local, case)) == 5, 15, "everything to be told")
    assert told(local, case) == ["opened", "advanced", "advanced", "published", "closed"]
    set_clock(local, "2026-03-02T02:00:00")


def test_an_objection_a_hearing_and_a_revocation(local: Local) -> None:
    case = filed(local, "第二木作")
    for outcome, who in (("pass", "street-01"), ("propose", "990101"), ("object", "990100")):
        assert "accepted" in decide(local, case, outcome, who)
    set_clock(local, "2026-05-11T02:00:00")
    assert stage(local, case) == "objection"
    assert "accepted" in decide(local, case, "dismiss", "990100")
    # Its notice was over in March: with the objection it is recognised.
    wait_until(lambda: stage(local, case) == "recognised", 15, "the recognition")
    assert decide(local, case, "propose", "head-01")["errors"][0]["code"] == "ground"
    assert "accepted" in decide(local, case, "propose", "head-01", "R-YP-011")
    set_clock(local, "2026-06-01T02:00:00")
    wait_until(lambda: stage(local, case) == "ruling", 15, "its silence")
    assert "accepted" in decide(local, case, "revoke", "990100", "R-YP-011")
    assert history(local, case)[-3:] == [
        ["propose", "head-01", "2026-05-11"],
        ["silent", "clock", "2026-05-22"],
        ["revoke", "990100", "2026-06-01"],
    ]
