"""The wire against a real conversation: whatever the server does, the outcome says what is certain."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import pytest
import trustme
from aiosmtpd.handlers import Sink
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from services.notify.smtp import Failed, Later, Outcome, Relay, Sent, Unknown
from tests.smtp_stub import Fault, Step, Stub, say

P = ParamSpec("P")

MAIL = b"Message-ID: <m-1@gz.example>\r\nSubject: x\r\n\r\nfirst\r\n.second\r\n"
ID = "<m-1@gz.example>"
SENDER, TO = "no-reply@gz.example", "officer@th.example"
SHORT = 0.3


def in_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


async def yes() -> bool:
    return True


async def no() -> bool:
    return False


@asynccontextmanager
async def relay_to(port: int, **options: Any) -> AsyncIterator[Relay]:
    relay = Relay("127.0.0.1", port, hostname="yiqi.example", **options)
    try:
        yield relay
    finally:
        await relay.close()


async def deliver(stub: Stub, message: bytes = MAIL, **options: Any) -> Outcome:
    async with relay_to(stub.port, **options) as relay:
        return await relay.deliver(SENDER, TO, message, yes)


@in_loop
async def test_a_mail_that_goes_well_is_sent_once_to_one_recipient() -> None:
    async with Stub() as stub:
        assert await deliver(stub) == Sent("250 2.0.0 queued as 4711")
        assert stub.accepted == {ID: 1}
        assert stub.envelopes == [(f"MAIL FROM:<{SENDER}>", [f"RCPT TO:<{TO}>"])]
        assert stub.mails == [MAIL]
        assert stub.commands[-1] == "QUIT"


TRANSIENT: list[tuple[Step, Fault]] = [
    ("greeting", say("421 busy")),
    ("greeting", say("554 no service here")),
    ("greeting", Fault("drop")),
    ("greeting", Fault("reset")),
    ("EHLO", say("421 busy")),
    ("EHLO", Fault("reset")),
    ("MAIL", say("421 busy")),
    ("MAIL", say("451 try later")),
    ("MAIL", Fault("reset")),
    ("RCPT", say("421 busy")),
    ("RCPT", say("451 greylisted")),
    ("RCPT", say("what?")),
    ("RCPT", Fault("drop")),
    ("RCPT", Fault("reset")),
    ("DATA", say("421 busy")),
    ("DATA", say("451 no room")),
    ("DATA", say("250 what?")),
    ("DATA", Fault("drop")),
    ("DATA", Fault("reset")),
    ("dot", say("421 shutting down")),
    ("dot", say("451 try later")),
]


@pytest.mark.parametrize(("step", "fault"), TRANSIENT)
@in_loop
async def test_what_the_server_does_not_have_may_be_tried_again(step: Step, fault: Fault) -> None:
    async with Stub({step: [fault]}) as stub, relay_to(stub.port) as relay:
        assert isinstance(await relay.deliver(SENDER, TO, MAIL, yes), Later)
        assert stub.accepted == {}
        assert isinstance(await relay.deliver(SENDER, TO, MAIL, yes), Sent)
        assert stub.accepted == {ID: 1}


@pytest.mark.parametrize("step", ["greeting", "EHLO", "MAIL", "RCPT", "DATA"])
@in_loop
async def test_silence_before_the_mail_is_written_may_be_tried_again(step: Step) -> None:
    async with Stub({step: [Fault("hang")]}) as stub:
        assert isinstance(await deliver(stub, timeout=SHORT), Later)
        assert stub.hanging.is_set()
        assert stub.accepted == {}


@pytest.mark.parametrize(
    ("step", "reply"),
    [
        ("MAIL", "552 too big"),
        ("RCPT", "550 no such user"),
        ("DATA", "554 no valid recipients"),
        ("dot", "550 spam"),
    ],
)
@in_loop
async def test_a_refusal_for_good_is_failed_and_the_next_mail_is_not_harmed(step: Step, reply: str) -> None:
    async with Stub({step: [say(reply)]}) as stub, relay_to(stub.port) as relay:
        assert await relay.deliver(SENDER, TO, MAIL, yes) == Failed(reply)
        assert isinstance(await relay.deliver(SENDER, TO, MAIL, yes), Sent)
        assert stub.accepted == {ID: 1}


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("end", ["drop", "reset", "hang"])
@in_loop
async def test_no_answer_after_the_final_dot_is_unknown_stored_or_not(end: Any, stored: bool) -> None:
    async with (
        Stub({"dot": [Fault(end, store=stored)]}) as stub,
        relay_to(stub.port, final_timeout=SHORT) as relay,
    ):
        assert isinstance(await relay.deliver(SENDER, TO, MAIL, yes), Unknown)
        assert stub.accepted == ({ID: 1} if stored else {})
        other = MAIL.replace(b"m-1", b"m-2")
        assert isinstance(await relay.deliver(SENDER, TO, other, yes), Sent)
        assert stub.accepted["<m-2@gz.example>"] == 1


@pytest.mark.parametrize("fault", [Fault("drop"), Fault("reset")])
@in_loop
async def test_a_connection_lost_in_the_middle_of_the_mail_is_unknown(fault: Fault) -> None:
    async with Stub({"content": [fault]}) as stub:
        assert isinstance(await deliver(stub), Unknown)
        assert stub.accepted == {}


@pytest.mark.parametrize("reply", ["what?", "354 more", "100 hm"])
@in_loop
async def test_an_answer_that_answers_nothing_is_unknown(reply: str) -> None:
    async with Stub({"dot": [say(reply, store=True)]}) as stub:
        assert isinstance(await deliver(stub), Unknown)


@in_loop
async def test_a_server_that_does_not_want_us_does_not_fail_the_mail() -> None:
    async with Stub({"EHLO": [say("554 go away"), say("554 go away")]}) as stub:
        assert isinstance(await deliver(stub), Later)
        assert isinstance(await deliver(stub), Sent)


@in_loop
async def test_a_goodbye_that_fails_changes_nothing() -> None:
    async with Stub({"QUIT": [Fault("reset")]}) as stub:
        assert isinstance(await deliver(stub), Sent)


@in_loop
async def test_a_server_that_is_not_there_is_later() -> None:
    async with Stub() as stub:
        port = stub.port
    async with relay_to(port) as relay:
        assert isinstance(await relay.deliver(SENDER, TO, MAIL, yes), Later)


@in_loop
async def test_before_data_runs_after_the_recipient_and_before_the_mail() -> None:
    async with Stub() as stub, relay_to(stub.port) as relay:

        async def before_data() -> bool:
            assert stub.commands[-1] == f"RCPT TO:<{TO}>"
            return True

        assert isinstance(await relay.deliver(SENDER, TO, MAIL, before_data), Sent)


@in_loop
async def test_before_data_is_not_asked_when_the_recipient_is_refused() -> None:
    async def before_data() -> bool:
        raise AssertionError

    async with Stub({"RCPT": [say("550 no")]}) as stub, relay_to(stub.port) as relay:
        assert isinstance(await relay.deliver(SENDER, TO, MAIL, before_data), Failed)


@in_loop
async def test_a_lost_lease_calls_the_mail_off_and_keeps_the_connection() -> None:
    async with Stub() as stub, relay_to(stub.port) as relay:
        assert await relay.deliver(SENDER, TO, MAIL, no) == Later("lease lost")
        assert stub.commands[-1] == "RSET"
        assert stub.accepted == {}
        assert isinstance(await relay.deliver(SENDER, TO, MAIL, yes), Sent)
        assert stub.connections == 1


@in_loop
async def test_a_ledger_that_fails_leaves_nothing_begun_behind() -> None:
    async def before_data() -> bool:
        raise OSError("the database is away")

    async with Stub() as stub, relay_to(stub.port) as relay:
        with pytest.raises(OSError, match="the database is away"):
            await relay.deliver(SENDER, TO, MAIL, before_data)
        assert stub.accepted == {}
        assert isinstance(await relay.deliver(SENDER, TO, MAIL, yes), Sent)
        assert stub.connections == 2


@in_loop
async def test_a_cancelled_delivery_closes_its_connection() -> None:
    async with Stub({"dot": [Fault("hang", store=True)]}) as stub, relay_to(stub.port) as relay:
        delivery = asyncio.create_task(relay.deliver(SENDER, TO, MAIL, yes))
        await stub.hanging.wait()
        delivery.cancel()
        with pytest.raises(asyncio.CancelledError):
            await delivery
        assert isinstance(await relay.deliver(SENDER, TO, MAIL.replace(b"m-1", b"m-2"), yes), Sent)
        assert stub.connections == 2


@pytest.mark.parametrize("end", [Fault("drop"), Fault("reset"), say("421 idle for too long")])
@in_loop
async def test_mails_share_one_connection_and_a_dead_one_is_replaced(end: Fault) -> None:
    async with Stub({"MAIL": [None, None, end]}) as stub, relay_to(stub.port) as relay:
        for _ in range(2):
            assert isinstance(await relay.deliver(SENDER, TO, MAIL, yes), Sent)
        assert stub.connections == 1
        assert isinstance(await relay.deliver(SENDER, TO, MAIL, yes), Sent)
        assert stub.connections == 2


@pytest.mark.parametrize(
    "address",
    [
        "",
        "张三@th.example",
        "a@th.example, evil@x.example",
        "张三 <a@th.example>",
        "a@th.example\r\nRCPT TO:<evil@x.example>",
        "a@th.example> SIZE=1",
        '"a b"@th.example',
        "a@[127.0.0.1]",
    ],
)
@in_loop
async def test_what_is_not_one_plain_mailbox_never_reaches_the_wire(address: str) -> None:
    async with Stub() as stub, relay_to(stub.port) as relay:
        assert isinstance(await relay.deliver(SENDER, address, MAIL, yes), Failed)
        assert stub.connections == 0


@in_loop
async def test_a_chinese_domain_travels_in_punycode() -> None:
    async with Stub() as stub, relay_to(stub.port) as relay:
        assert isinstance(await relay.deliver(SENDER, "a@广州.中国", MAIL, yes), Sent)
        assert stub.envelopes[0][1] == ["RCPT TO:<a@xn--6rtwn.xn--fiqs8s>"]


@in_loop
async def test_the_reason_does_not_carry_the_address_that_the_server_repeats() -> None:
    async with Stub({"RCPT": [say(f"550 5.1.1 <{TO}>: unknown in table")]}) as stub:
        assert await deliver(stub) == Failed("550 5.1.1 <<address>>: unknown in table")


@in_loop
async def test_no_line_of_a_mail_ends_it_early() -> None:
    smuggled = MAIL + b".\nMAIL FROM:<evil@x.example>\n.\rRCPT\r.\r\nend"
    async with Stub() as stub:
        assert isinstance(await deliver(stub, smuggled), Sent)
        assert len(stub.envelopes) == 1
        assert stub.mails[0].endswith(b".\r\nMAIL FROM:<evil@x.example>\r\n.\r\nRCPT\r\n.\r\nend\r\n")


class Keeper(Sink):
    """A well-behaved server's handler that remembers what came."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[Envelope] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802  # aiosmtpd's
        self.taken.append(envelope)
        return "250 taken"


@asynccontextmanager
async def aiosmtpd_on(
    keeper: Keeper, tls: ssl.SSLContext | None = None, **options: Any
) -> AsyncIterator[int]:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(keeper, hostname="sink.example", loop=loop, **options), "127.0.0.1", 0, ssl=tls
    )
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Key and certificate of the server, and who vouches for it."""
    folder = tmp_path_factory.mktemp("tls")
    key, cert, authority = folder / "key.pem", folder / "cert.pem", folder / "authority.pem"
    ours = trustme.CA()
    ours.cert_pem.write_to_path(authority)
    made = ours.issue_cert("127.0.0.1")
    made.private_key_pem.write_to_path(key)
    for n, part in enumerate(made.cert_chain_pems):
        part.write_to_path(cert, append=n > 0)
    return key, cert, authority


@in_loop
async def test_a_well_behaved_server_gets_the_mail_as_it_was_written() -> None:
    keeper = Keeper()
    async with aiosmtpd_on(keeper) as port, relay_to(port) as relay:
        assert await relay.deliver(SENDER, TO, MAIL, yes) == Sent("250 taken")
        assert await relay.deliver(SENDER, TO, MAIL, yes) == Sent("250 taken")
    assert [(e.mail_from, e.rcpt_tos, e.original_content) for e in keeper.taken] == [(SENDER, [TO], MAIL)] * 2


# aiosmtpd cannot see that the socket under it is encrypted, and warns.
@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS:UserWarning")
@pytest.mark.parametrize("security", ["starttls", "tls"])
@in_loop
async def test_the_relay_speaks_tls_and_logs_in(security: Any, certificate: tuple[Path, Path, Path]) -> None:
    key, cert, authority = certificate
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_side.load_cert_chain(cert, key)
    trusting = ssl.create_default_context(cafile=str(authority))

    def check(
        _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, given: Any
    ) -> AuthResult:
        right = isinstance(given, LoginPassword) and given.password == b"secret"
        return AuthResult(success=right, handled=False)

    options: dict[str, Any] = {"authenticator": check, "auth_required": True}
    if security == "starttls":
        options |= {"tls_context": server_side, "require_starttls": True}
    else:
        options |= {"auth_require_tls": False}
    keeper = Keeper()
    async with aiosmtpd_on(keeper, server_side if security == "tls" else None, **options) as port:
        async with relay_to(
            port, security=security, tls_context=trusting, user="yiqi", password="secret"
        ) as relay:
            assert isinstance(await relay.deliver(SENDER, TO, MAIL, yes), Sent)
        # Ours to mend, and no reason to give up any mail.
        async with relay_to(
            port, security=security, tls_context=trusting, user="yiqi", password="wrong"
        ) as relay:
            assert isinstance(await relay.deliver(SENDER, TO, MAIL, yes), Later)
        async with relay_to(port, security=security) as relay:
            assert isinstance(await relay.deliver(SENDER, TO, MAIL, yes), Later)
    assert len(keeper.taken) == 1


@pytest.mark.parametrize(("announced", "asked"), [("250-stub\r\n250 DSN", True), ("250 stub", False)])
@in_loop
async def test_a_server_that_reports_is_asked_to(announced: str, asked: bool) -> None:
    async with Stub({"EHLO": [say(announced)]}) as stub, relay_to(stub.port) as relay:
        assert isinstance(await relay.deliver(SENDER, TO, MAIL, yes, "abc"), Sent)
        ((sender, recipients),) = stub.envelopes
        assert ("RET=HDRS ENVID=abc" in sender) is asked
        assert ("NOTIFY=FAILURE,DELAY" in recipients[0]) is asked


@in_loop
async def test_a_connection_ends_after_its_mails() -> None:
    async with Stub() as stub, relay_to(stub.port, most=2) as relay:
        for _ in range(5):
            assert isinstance(await relay.deliver(SENDER, TO, MAIL, yes), Sent)
        assert (stub.connections, stub.commands.count("QUIT")) == (3, 2)
