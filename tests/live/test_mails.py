"""notify as a process, against a scripted mail server: several connections, rates, bounces, and what people settle."""

import asyncio
import json
import os
import smtplib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.cli.local import Local
from services.notify.verp import address
from shared.contracts import registry
from shared.contracts.case import CaseOpened
from shared.runtime.embedded import eventually, free_port
from shared.runtime.streams import EVT
from tests.goldens import golden
from tests.smtp_stub import Fault, Stub, say
from tests.unit.test_bounces import report

EXAMPLE = golden("cn.gov.gz.sme.case.opened.v1")
WHERE, SECRET = "bounce.gz.example", "s3cret"
OPERATORS = "ops@gz.example"


@pytest.fixture(scope="module")
def lmtp() -> int:
    return free_port()


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory, lmtp: int) -> Iterator[Local]:
    extra = {
        "YIQI_SMTP_CONNECTIONS": "4",
        "YIQI_SMTP_IDLE": "0.5",
        "YIQI_SMTP_MAILS": "10",
        "YIQI_SMTP_REPLY_TIMEOUT": "2",
        "YIQI_MAIL_DOMAIN_RATE": "slow.example=1",
        "YIQI_BOUNCE_DOMAIN": WHERE,
        "YIQI_BOUNCE_SECRET": SECRET,
        "YIQI_BOUNCE_PORT": str(lmtp),
        "YIQI_OPERATORS": OPERATORS,
    }
    here = Local(
        tmp_path_factory.mktemp("mails"),
        services=("notify",),
        sync_always=False,
        mail=False,
        accounts=False,
        extra=extra,
    )
    with here:
        yield here


async def opened(local: Local, *addresses: str) -> list[str]:
    """A case for each address, told as review tells it; the ids of the mails that are owed for them."""
    client = await local.connect("review")
    example = json.loads(EXAMPLE.read_text())["data"]
    alone: dict[str, Any] = {"package": None, "recommender": None, "stage": "formal_check", "changed": []}
    told = []
    for to in addresses:
        case = {**example, **alone, "case": str(uuid4()), "filer": {**example["filer"], "email": to}}
        change = CaseOpened.model_validate(case)
        id_, body = registry.CASE_OPENED.wire(change, change.case, at=datetime.now(UTC))
        subject = registry.CASE_OPENED.subject(change.unit)
        await client.jetstream().publish(subject, body, stream=EVT, headers={"Nats-Msg-Id": id_})
        told.append(str(change.case))
    await client.close()

    def owed() -> list[str]:
        sql = "select id from notify.mail where letter = 'accepted' and \"case\"::text in ({})".format(
            ", ".join(f"'{case}'" for case in told)
        )
        found = rows(local, sql)
        return found if len(found) == len(told) else []

    return await eventually(owed, 20, "the mails to be owed")


def rows(local: Local, sql: str) -> list[str]:
    return local.postgres.sql(sql, database="yiqi").split()


def state(local: Local, mail: str) -> str:
    return " ".join(rows(local, f"select state from notify.mail where id = '{mail}'"))


async def arrived(local: Local, mail: str, *states: str) -> None:
    await eventually(lambda: state(local, mail) in (states or ("sent", "unknown")), 30, f"mail {mail}")


def yiqi(local: Local, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(Path(sys.executable).parent / "yiqi"), *arguments],
        env={**os.environ, **local.environment, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        cwd=local.directory,
    )


def hand_in(port: int, recipient: str, raw: bytes) -> None:
    """As a mail server does."""
    with closing(smtplib.LMTP("127.0.0.1", port)) as server:
        server.sendmail("", [recipient], raw)
        server.quit()


async def test_mails_go_over_several_connections_that_end_by_themselves(local: Local) -> None:
    async with Stub(port=local.mails.port) as stub:
        mails = await opened(local, *(f"a{i}@d{i % 7}.example" for i in range(60)))
        await eventually(lambda: len(stub.accepted) == 60, 30, "all mails")
        assert set(stub.accepted.values()) == {1}
        # Ten a connection, four at a time.
        assert 6 <= stub.connections <= 20
        # Nothing is left open when there is nothing to send.
        await eventually(
            lambda: stub.commands.count("QUIT") == stub.connections, 10, "every connection to end"
        )
        await eventually(lambda: {state(local, mail) for mail in mails} == {"sent"}, 10, "the ledger")


async def test_a_slow_domain_holds_up_no_other(local: Local) -> None:
    async with Stub(port=local.mails.port) as stub:
        slow = [f"s{i}@slow.example" for i in range(60)]
        await opened(local, *slow, *(f"f{i}@fast.example" for i in range(20)))
        fast = [f"RCPT TO:<f{i}@fast.example>" for i in range(20)]
        await eventually(lambda: {r[0] for _, r in stub.envelopes} >= set(fast), 20, "the others")
        assert sum("slow.example" in r[0] for _, r in stub.envelopes) == 1
    local.postgres.sql("delete from notify.mail where address like '%slow.example'", database="yiqi")


async def test_a_person_settles_what_nobody_knows(local: Local) -> None:
    vanish = Fault("drop", store=True)
    async with Stub({"dot": [vanish, vanish]}, port=local.mails.port) as stub:
        one, other = await opened(local, "p@th.example", "q@th.example")
        for mail in (one, other):
            await arrived(local, mail, "unknown")
        listed = await asyncio.to_thread(yiqi, local, "mail", "list", "--state", "unknown", "--json")
        assert {row["id"] for row in json.loads(listed.stdout)} == {one, other}
        settled = await asyncio.to_thread(
            yiqi, local, "mail", "resolve", one, "--sent", "--why", "中继日志有", "--by", "440100-01"
        )
        assert settled.returncode == 0, settled.stderr
        again = await asyncio.to_thread(
            yiqi, local, "mail", "resolve", other, "--not-sent", "--why", "日志中没有", "--by", "440100-01"
        )
        assert again.returncode == 0, again.stderr
        await eventually(lambda: state(local, other) == "sent", 15, "the second")
        assert state(local, one) == "sent"
        assert stub.accepted[f"<m-{one}@yiqi.test>"] == 1
        assert stub.accepted[f"<m-{other}@yiqi.test>"] == 2  # under the same Message-ID
        twice = await asyncio.to_thread(
            yiqi, local, "mail", "resolve", one, "--not-sent", "--why", "x", "--by", "440100-01"
        )
        assert twice.returncode == 1
        kept = rows(local, 'select sent, "by", why from notify.resolution order by n')
        assert kept == ["t|440100-01|中继日志有", "f|440100-01|日志中没有"]


async def test_a_bounce_stops_the_address_and_tells_a_person(local: Local, lmtp: int) -> None:
    async with Stub(port=local.mails.port) as stub:
        (mail,) = await opened(local, "Gone@th.example")
        await eventually(lambda: state(local, mail) == "sent", 10, "sent")
        sender = stub.envelopes[0][0]
        came_from = sender.removeprefix("MAIL FROM:<").partition(">")[0]
        assert came_from == address(message_id(stub.mails[0]), WHERE, SECRET)

        # Nobody else can make it up, and an automatic answer changes nothing.
        forged = address(message_id(stub.mails[0]), WHERE, "guessed")
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            await asyncio.to_thread(hand_in, lmtp, forged, report("failed", "5.1.1"))
        holiday = b"From: gone@th.example\r\nSubject: x\r\nAuto-Submitted: auto-replied\r\n\r\nhi\r\n"
        await asyncio.to_thread(hand_in, lmtp, came_from, holiday)
        await asyncio.to_thread(hand_in, lmtp, came_from, report("delayed", "4.4.1"))
        assert state(local, mail) == "sent"

        for _ in range(2):
            await asyncio.to_thread(hand_in, lmtp, came_from.upper(), report("failed", "5.1.1"))
        assert state(local, mail) == "bounced"
        assert rows(local, f"select kind from notify.bounce where mail = '{mail}' order by kind") == [
            "auto",
            "hard",
            "soft",
        ]
        await eventually(lambda: len(stub.mails) == 2, 10, "the letter to a person")
        letter = message_from_bytes(stub.mails[1], policy=policy.default)
        assert isinstance(letter, EmailMessage)
        assert stub.envelopes[1][1] == [f"RCPT TO:<{OPERATORS}>"]
        body = letter.get_body()
        assert body is not None
        assert "收件地址不存在或已停用（5.1.1）" in body.get_content()
        assert "th.example" not in str(letter["Subject"]) + body.get_content()

        # The next mail to that address fails at once; until a person says otherwise.
        (second,) = await opened(local, "gone@th.example")
        await eventually(lambda: state(local, second) == "failed", 10, "failed")
        assert not any("gone@" in r[0].lower() for _, r in stub.envelopes[1:])
        shown = await asyncio.to_thread(yiqi, local, "mail", "suppressed", "--json")
        assert [row["mail"] for row in json.loads(shown.stdout)] == [mail]
        assert "gone" not in shown.stdout.lower()
        done = await asyncio.to_thread(yiqi, local, "mail", "unsuppress", mail)
        assert done.returncode == 0, done.stderr
        (third,) = await opened(local, "gone@th.example")
        await eventually(lambda: state(local, third) == "sent", 10, "sent again")


async def test_a_refusal_by_the_relay_tells_a_person_too(local: Local) -> None:
    async with Stub({"RCPT": [say("550 5.2.1 <x@th.example> disabled")]}, port=local.mails.port) as stub:
        (mail,) = await opened(local, "x@th.example")
        await eventually(lambda: state(local, mail) == "failed", 10, "failed")
        await eventually(lambda: len(stub.mails) == 1, 10, "the letter to a person")
        assert stub.envelopes[0][1] == [f"RCPT TO:<{OPERATORS}>"]


async def test_a_worker_that_loses_its_lock_sends_nothing_twice(local: Local) -> None:
    """Its connection to the database is cut, again and again, while mails are on their way."""
    async with Stub(port=local.mails.port) as stub:
        lost = (
            "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' "
            "and database = (select oid from pg_database where datname = 'yiqi')"
        )
        mails = await opened(local, *(f"l{i}@l{i}.example" for i in range(40)))
        for _ in range(3):
            rows(local, lost)
            fresh = await opened(local, *(f"l{i}@m{i}.example" for i in range(20)))
            mails += fresh
            await arrived(local, fresh[0])
        await eventually(
            lambda: {state(local, mail) for mail in mails} <= {"sent", "unknown"}, 40, "all to be settled"
        )
        assert set(stub.accepted.values()) == {1}
        assert len(stub.accepted) >= len(mails) - 12


def message_id(raw: bytes) -> UUID:
    return UUID(str(message_from_bytes(raw)["Message-ID"])[3:39])


def test_logs_name_nobody(local: Local, tmp_path: Path) -> None:
    assert ".example" not in (local.directory / "notify.log").read_text()
