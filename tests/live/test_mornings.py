"""notify as two processes that wait: one mail of a morning although one of them ends while making it, held mails by the
word of their issuer, the report of the day.

The ledger's part alone is in `test_pending.py`.
"""

import asyncio
import email
import email.policy
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.cli.filing import publish
from services.cli.local import Local
from shared.contracts import registry
from shared.contracts.case import AuditHeaded, CaseAdvanced, CaseChanged, CaseReturned
from shared.contracts.mail import MailsSettled
from shared.contracts.registry import EventType
from shared.contracts.types import Party
from shared.notices.calendar import SHANGHAI
from shared.runtime.clock import Clock
from shared.runtime.embedded import wait_until
from shared.runtime.streams import EVT

NOTICE = "gz-collection-2025q1"
CITY, DISTRICT = "440100", "440106"
OPERATOR = "ops@gz.example"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=SHANGHAI)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    folder = tmp_path_factory.mktemp("mornings")
    extra = {
        "YIQI_SENDING_HOURS": "08:30-18:00",
        "YIQI_HOLD_LETTERS": "selected",
        "YIQI_OPERATORS": OPERATOR,
        "PYTHONPATH": str(Path(__file__).parent / "sabotage"),
        "SABOTAGE": "halfway",
        "HALFWAY": str(folder / "halfway"),
    }
    here = Local(folder, processes=2, sync_always=False, services=("notify",), extra=extra)
    turn(here, "2025-03-03T10:00")  # a Monday
    with here:
        yield here


def turn(local: Local, text: str) -> None:
    local.clock.write_text(str((at(text) - datetime.now(UTC)).total_seconds()))


def say(local: Local, type_: EventType, data: Any, *cause: object) -> None:
    async def saying() -> None:
        client = await local.connect("review")
        _, body = type_.wire(data, *cause, at=Clock(local.clock).now())
        await client.jetstream().publish(type_.subject(DISTRICT), body, stream=EVT)
        await client.close()

    asyncio.run(saying())


def ask(local: Local, publisher: str, action: Any, **fields: Any) -> dict[str, Any]:
    async def asking() -> dict[str, Any]:
        client = await local.connect(publisher)
        said = MailsSettled(**{"notice": NOTICE, "action": action, "reason": "审定", **fields})
        try:
            return await publish(client, publisher, registry.MAILS_SETTLED, said, str(uuid4()))
        finally:
            await client.close()

    return asyncio.run(asking())


def change(of: type[CaseChanged], address: str, **fields: Any) -> CaseChanged:
    filer = Party(code="gzqyfw", kind="K3", name="广州企业服务平台", email=address)
    known = {"version": 2, "notice": NOTICE, "form": "F3", "filer": filer, "unit": filer.code, "late": False}
    return of(**{**known, "district": DISTRICT, "actor": CITY, "reason": "经审核", **fields})


def rows(local: Local, sql: str) -> list[dict[str, Any]]:
    found = local.postgres.sql(f"select coalesce(json_agg(r), '[]') from ({sql}) r", "yiqi")
    answer: list[dict[str, Any]] = json.loads(found)
    return answer


def until(local: Local, sql: str, what: str) -> None:
    wait_until(lambda: local.postgres.sql(f"select {sql}", "yiqi").strip() == "t", 40, what)


def mails(local: Local, address: str) -> list[EmailMessage]:
    found = []
    for path in local.mails.messages():
        message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        if message["X-Envelope-To"] == address:
            found.append(message)
    return found


def text(message: EmailMessage) -> str:
    body = message.get_body(("plain",))
    assert body
    content: str = body.get_content()
    return content.replace("\r\n", "\n")


def reports(local: Local, day: str) -> list[EmailMessage]:
    return [m for m in mails(local, OPERATOR) if day in str(m["Subject"])]


def test_two_processes_make_one_mail_of_a_morning_although_one_ends_while_making_it(local: Local) -> None:
    address = "filer@th.example"
    for n in range(3):
        returned = change(
            CaseReturned, address, case=uuid4(), number=f"F3-{n}", title=f"活动{n}",
            stage="correction", outcome="return", due=date(2025, 3, 10 + n),
        )  # fmt: skip
        say(local, registry.CASE_RETURNED, returned, n)
    # Decisions go at once. Of all three dates the last working day three days before is the Friday.
    until(local, "count(*) = 3 from notify.mail where letter = 'returned' and state = 'sent'", "the returns")
    turn(local, "2025-03-07T09:00")
    wait_until(lambda: any(p.poll() == 137 for p in local.running.values()), 40, "the end of a process")
    for name, process in list(local.running.items()):
        if process.poll() is not None:
            local.launch(name)
    until(local, "count(*) = 1 from notify.mail where letter = 'digest' and state = 'sent'", "the mail")
    local.ready()
    *_, morning = mails(local, address)
    assert len(mails(local, address)) == 4
    assert str(morning["Subject"]) == "〔待办提醒〕3项，最近一项还有3天"
    assert [text(morning).index(f"F3-{n}") for n in range(3)] == sorted(
        text(morning).index(f"F3-{n}") for n in range(3)
    )
    found = rows(
        local, "select state, digest from notify.mail where letter = 'deadline' and \"case\" is not null"
    )
    assert {row["state"] for row in found} == {"merged"}
    assert len({row["digest"] for row in found}) == 1


def held(local: Local, address: str, count: int) -> list[UUID]:
    for n in range(count):
        selected = change(
            CaseAdvanced, address, case=uuid4(), number=f"F3-S{n}", title=f"案例{n}",
            stage="publication", outcome="select",
        )  # fmt: skip
        say(local, registry.CASE_ADVANCED, selected, address, n)
    until(
        local, f"count(*) = {count} from notify.mail where state = 'held' and address = '{address}'", "them"
    )
    return [UUID(r["id"]) for r in rows(local, f"select id from notify.mail where address = '{address}'")]


def test_held_mails_leave_by_the_word_of_their_issuer_alone(local: Local) -> None:
    address = "held@th.example"
    one, two = held(local, address, 2)
    refused = ask(local, DISTRICT, "release", mails=(one,))
    assert (refused["status"], refused["title"]) == (403, "无权办理")
    assert ask(local, CITY, "release", notice="none")["status"] == 404
    assert ask(local, CITY, "release", text="x")["status"] == 422
    assert "accepted" in ask(local, CITY, "edit", mails=(one,), text="授牌时间另行通知。")
    assert "accepted" in ask(local, CITY, "discard", mails=(two,), officer="A001")
    assert mails(local, address) == []
    answer = ask(local, CITY, "release", mails=(one, two))
    assert [(e["pointer"], e["severity"]) for e in answer["errors"]] == [("#/data/mails/1", "info")]
    until(local, f"state = 'sent' from notify.mail where id = '{one}'", "the released one")
    assert ask(local, CITY, "release", mails=(one,))["status"] == 404
    (sent,) = mails(local, address)
    assert "补充说明：授牌时间另行通知。" in text(sent)
    (discarded,) = rows(local, f"select state, handled from notify.mail where id = '{two}'")
    assert discarded["state"] == "discarded"
    assert [(a["action"], a["by"], a["officer"]) for a in discarded["handled"]] == [("discard", CITY, "A001")]


def yiqi(local: Local, *arguments: str, status: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-c", "from services.cli import main; main()", "mail", *arguments],
        capture_output=True,
        text=True,
        env={**{k: v for k, v in os.environ.items() if not k.startswith("YIQI_")}, **local.environment},
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


def test_an_officer_of_the_issuer_does_the_same_by_command(local: Local) -> None:
    address = "command@th.example"
    ids = [str(id_) for id_ in held(local, address, 2)]
    reason = ("--as", CITY, "--reason", "审定")
    listed = yiqi(local, "held")
    assert f"{NOTICE} selected：2封" in listed
    assert address not in listed
    said = yiqi(local, "edit", ids[0], "--text", "另行通知。", *reason)
    assert "已在1封中加写补充说明" in said
    assert "无权办理" in yiqi(local, "release", ids[0][:13], "--as", DISTRICT, "--reason", "x", status=1)
    assert "没有邮件 ffffffff-0" in yiqi(local, "discard", "ffffffff-0", *reason, status=2)
    assert "已放行2封" in yiqi(local, "release", "--notice", NOTICE, "--letter", "selected", *reason)
    wait_until(lambda: len(mails(local, address)) == 2, 40, "what was released")
    assert len([m for m in mails(local, address) if "补充说明：另行通知。" in text(m)]) == 1


def test_a_released_mail_is_sent_once_although_every_process_ends(local: Local) -> None:
    address = "crash@th.example"
    held(local, address, 3)
    local.mails.refusal = "451 4.3.0 try later"
    assert "accepted" in ask(local, CITY, "release", letter="selected")
    # Not in the middle of a conversation: then nobody could say whether it was taken.
    tried = "bool_and(attempt > 0 and state = 'queued')"
    until(local, f"{tried} from notify.mail where address = '{address}'", "an attempt of each")
    for name in local.names:
        local.kill(name)
    local.mails.refusal = None
    turn(local, "2025-03-07T11:00")
    for name in local.names:
        local.launch(name)
    until(local, f"count(*) = 3 from notify.mail where address = '{address}' and state = 'sent'", "them")
    local.ready()
    assert len(mails(local, address)) == 3
    assert len({m["Message-ID"] for m in mails(local, address)}) == 3


def test_operators_are_told_once_a_day_what_waits_with_or_without_the_head(local: Local) -> None:
    held(local, "waits@th.example", 1)
    turn(local, "2025-03-08T12:00")  # a Saturday, a day later: it goes all the same
    headed = AuditHeaded(day=date(2025, 3, 8), seq=7, lines=9, head="8d" * 32, dead=2)
    for n in range(2):
        say(local, registry.AUDIT_HEADED, headed, n)
    wait_until(lambda: reports(local, "3月8日"), 40, "the report")
    (report,) = reports(local, "3月8日")
    assert "7:8d8d" in text(report)
    assert "无法处理的消息：2（yiqi dead list）\n  review：2条\n  notify：0条\n" in text(report)
    assert f"留存超过一天的邮件：1（yiqi mail held）\n  selected（{NOTICE}）：1封\n" in text(report)
    assert "发送失败的邮件：0\n" in text(report)
    assert "example" not in text(report)
    turn(local, "2025-03-09T12:00")
    for name in local.names:
        local.kill(name)
        local.launch(name)
    local.ready()
    turn(local, "2025-03-09T14:00")  # nothing was heard of review, for an hour of both
    wait_until(lambda: reports(local, "3月9日"), 40, "the report without the head")
    assert "今日没有收到审计锚" in text(reports(local, "3月9日")[0])
    say(local, registry.AUDIT_HEADED, headed.model_copy(update={"day": date(2025, 3, 9)}), "late")
    marker = uuid4()
    say(local, registry.CASE_RETURNED, change(CaseReturned, "marker@th.example", case=marker, number="F3-M",
        title="x", stage="correction", outcome="return", due=date(2025, 3, 20)), marker)  # fmt: skip
    wait_until(lambda: len(mails(local, "marker@th.example")) == 1, 40, "what came after it")
    assert [len(reports(local, day)) for day in ("3月8日", "3月9日")] == [1, 1]
