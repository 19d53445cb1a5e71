"""A title's life over years, by the real services and a moved clock, from an invented city's files alone: what was
due while a service was down happens once, in order, and as of when it was due."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from services.cli.filing import publish
from services.cli.local import Local
from shared.contracts import registry
from shared.contracts.case import (
    DecisionMade,
    DecisionsMade,
    DecisionsSettled,
    Expert,
    FactReported,
    ScoreGiven,
)
from shared.contracts.submission import Filer, SubmissionFiled
from shared.runtime.embedded import wait_until

EXAMPLES = Path(__file__).parents[1] / "examples" / "yongping"
NOTICE = "yongping-workshops-2026"
AGENCIES = """
- {code: "990100", kind: city, name: 永平市工业局, short: 永平市局, source: 试验}
- {code: "990101", kind: K2, name: 临江区工业局, short: 临江区, district: "990101", source: 试验}
- {code: street-01, kind: K4, name: 临江街道办事处, short: 临江街道, source: 试验}
- {code: head-01, kind: K1, name: 永平工坊总站, short: 工坊总站, source: 试验}
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
    for file in EXAMPLES.glob("*.yaml"):
        (here / "notices" / file.name).write_bytes(file.read_bytes())
    (here / "agencies.yaml").write_text(AGENCIES, encoding="utf-8")
    mounted = {"YIQI_NOTICES": str(here / "notices"), "YIQI_AGENCIES": str(here / "agencies.yaml")}
    running = Local(here / "run", extra=mounted, services=("intake", "review", "notify"), mail=True)
    set_clock(running, "2026-03-02T02:00:00")
    with running:
        running.ready()
        yield running


def ask(local: Local, who: str, type_: registry.EventType, data: Any) -> dict[str, Any]:
    async def asked() -> dict[str, Any]:
        client = await local.connect(who)
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
        client = await local.connect()
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


# --- guilds: many at a time, held, scored, reported ---------------------------------------------------

GUILDS = "yongping-guilds-2026"


def guild(local: Local, name: str, **more: Any) -> UUID:
    data = SubmissionFiled(
        notice=GUILDS,
        form="F1",
        filer=Filer(code="990101", kind="K2", name="临江区工业局", email="linjiang@yongping.example"),
        values={"guild": name, "patron": "某协会", "members": 25, "contact": "示例 020-83726619", **more},
    )
    answer = ask(local, "990101", registry.SUBMISSION_FILED, data)
    assert "accepted" in answer, answer
    case = UUID(answer["case"])
    wait_until(lambda: stage(local, case) != "", 15, "the case")
    return case


def scored(local: Local, case: UUID, expert: str, points: int, **more: Any) -> dict[str, Any]:
    who = Expert(**{"code": expert, "employer": "某大学", **more})
    sheet = ScoreGiven(case=case, expert=who, points={"order": Decimal(points), "service": Decimal(30)})
    return ask(local, "990101", registry.SCORE_GIVEN, sheet)


def passing(case: UUID, outcome: str = "pass") -> DecisionMade:
    judged: Any = {"R-GU-002": "met", "R-GU-003": "not_applicable"}
    return DecisionMade(case=case, outcome=outcome, reason="评审", judgements=judged)


def kept(local: Local, tmp_path: Path, *arguments: str) -> tuple[int, Any]:
    """What the command line says, as JSON."""
    environment = {**os.environ, **local.environment}
    done = subprocess.run(
        [Path(sys.executable).parent / "yiqi", *arguments, "--json"], env=environment, cwd=tmp_path,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_many_decisions_are_held_and_released_and_one_bad_one_stops_no_other(
    local: Local, tmp_path: Path
) -> None:
    set_clock(local, "2026-03-02T02:00:00")
    cases = [guild(local, name) for name in ("一行会", "二行会", "三行会")]
    for case in cases[:2]:
        for n, expert in enumerate(("e-1", "e-2", "e-3")):
            assert "accepted" in scored(local, case, expert, 10 * (n + 1))
    assert scored(local, cases[0], "e-4", 40, conflict=True)["errors"][0]["code"] == "conflict.declared"
    assert scored(local, cases[0], "e-4", 40, employer="某协会")["errors"][0]["code"] == "conflict.employer"
    unknown = passing(UUID(int=404))
    many = DecisionsMade(decisions=(*map(passing, cases), unknown), hold=True)
    held = ask(local, "990101", registry.DECISIONS_MADE, many)
    # Nothing has happened yet, and what is wrong is known.
    assert [(e["pointer"], e["code"]) for e in held["errors"]] == [
        ("#/data/decisions/2", "incomplete"),
        ("#/data/decisions/3", "case"),
    ]
    assert [stage(local, case) for case in cases] == ["review"] * 3
    batch = held["accepted"]
    assert [row["n"] for row in kept(local, tmp_path, "held", "list")[1] if row["held"] == batch] == [4]
    release = DecisionsSettled(held=batch, action="release", reason="局务会议")
    # Whose it is not, and what nobody holds, is not settled.
    assert ask(local, "990100", registry.DECISIONS_SETTLED, release)["status"] == 404
    done = ask(local, "990101", registry.DECISIONS_SETTLED, release)
    assert len(done["errors"]) == 2
    assert [stage(local, case) for case in cases] == ["listed", "listed", "review"]
    again = release.model_copy(update={"reason": "再次"})
    assert ask(local, "990101", registry.DECISIONS_SETTLED, again)["status"] == 404
    everything = DecisionsMade(decisions=(passing(cases[0]), passing(cases[2])))
    assert ask(local, "990101", registry.DECISIONS_MADE, everything)["status"] == 422
    status, told = kept(local, tmp_path, "case", "show", str(cases[0]))
    assert (status, told["score"], told["judgements"]["R-GU-002"]) == (0, "80.00", "met")
    assert [(d["duty"], d["state"]) for d in told["duties"]][:2] == [("DL-92", "owed"), ("DL-94", "owed")]

    status, counted = kept(local, tmp_path, "case", "count", "--notice", GUILDS)
    assert [(t["now"], t["number"]) for t in counted["targets"]] == [(3, 10), (1, 2)]
    assert {c["stage"]: c["cases"] for c in counted["stages"]}["review"] == 1
    status, due = kept(local, tmp_path, "case", "due", "--notice", GUILDS, "--until", "2026-03-31")
    mine = [(d["what"], d["period"]) for d in due if d["title"] in ("一行会", "二行会") and d["period"]]
    assert mine == [("DL-92", "2026-1")] * 2
    command = ["case", "list", "--notice", GUILDS, "--by-score"]
    assert [c["score"] for c in kept(local, tmp_path, *command)[1]][:3] == ["80.00", "80.00", None]


def test_discarded_decisions_never_take_effect(local: Local) -> None:
    case = guild(local, "四行会")
    held = ask(
        local,
        "990101",
        registry.DECISIONS_MADE,
        DecisionsMade(decisions=(passing(case, "reject"),), hold=True),
    )
    discard = DecisionsSettled(held=held["accepted"], action="discard", reason="不办了")
    assert "accepted" in ask(local, "990101", registry.DECISIONS_SETTLED, discard)
    release = DecisionsSettled(held=held["accepted"], action="release", reason="还是办")
    assert ask(local, "990101", registry.DECISIONS_SETTLED, release)["status"] == 404
    assert stage(local, case) == "review"


def test_what_others_report_comes_before_the_city_and_the_history_plays_again(
    local: Local, tmp_path: Path
) -> None:
    set_clock(local, "2026-03-02T02:00:00")
    case = guild(local, "五行会", patron="市工业局")
    assert stage(local, case) == "listed"
    low = FactReported(
        case=case, kind="survey", occurred_on=date(2026, 2, 20), detail="会员评价调查", score=Decimal("41.5")
    )
    assert "accepted" in ask(local, "head-01", registry.FACT_REPORTED, low)
    assert stage(local, case) == "ruling"
    assert [line[:2] for line in history(local, case)] == [
        ["file", "990101"],
        ["fact", "head-01"],
        ["raise", "head-01"],
        ["question", "clock"],
    ]
    no = DecisionMade(case=case, outcome="revoke", reason="评价低", rules=("R-GU-011",))
    assert ask(local, "990101", registry.DECISION_MADE, no)["status"] == 403
    assert "accepted" in ask(local, "990100", registry.DECISION_MADE, no)
    refusals = kept(local, tmp_path, "case", "show", str(case))[1]["refused"]
    assert [(r["publisher"], r["what"], r["code"]) for r in refusals] == [("990101", "revoke", "authority")]
    # For a case that is over: recorded, without effect, and said so.
    late = ask(local, "head-01", registry.FACT_REPORTED, low.model_copy(update={"detail": "又一次调查"}))
    assert [e["code"] for e in late["errors"]] == ["case.ended"]
    assert stage(local, case) == "closed"
    assert kept(local, tmp_path, "case", "verify", str(case)) == (0, {"cases": 1, "wrong": [], "let_go": []})
    local.postgres.sql(f"""update review."case" set title = '别的' where "case" = '{case}'""", "yiqi")
    status, told = kept(local, tmp_path, "case", "verify", str(case))
    assert (status, [w["why"] for w in told["wrong"]]) == (1, ["第1次报送的内容与经过不符"])


def test_every_case_of_this_file_plays_again(local: Local, tmp_path: Path) -> None:
    """All that the tests above did, but for the one that was changed by hand."""
    status, told = kept(local, tmp_path, "case", "verify")
    assert told["cases"] >= 5
    assert len(told["wrong"]) == status
