"""Nobody elsewhere: what the accounts of the bus let through, for everyone and every subject, on a real server.

The services are here where it is their conduct that counts; what each may say is told by the registry, not by the
lists that are tested.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nats.errors
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from services.cli.nats import ACCOUNTS, SEEDS, keep
from shared.contracts.registry import ASKS, EVENTS, file_subject
from shared.notices.directory import Directory, unlisted
from shared.runtime import SERVICES
from shared.runtime.accounts import DESK, DOOR, HUB, OPERATOR, PROVISIONER, USERS, inbox
from shared.runtime.connection import connect, forbidden
from shared.runtime.embedded import Nats, ServerFailed, eventually
from shared.runtime.files import OURS
from shared.runtime.settings import Settings
from shared.runtime.streams import (
    AUDIT,
    BUCKET,
    CATALOGUES,
    CONSUMERS,
    EVT,
    FILE,
    IN,
    OUT,
    STREAMS,
    provision,
)
from tests.chaos.oracle import Verdict

Tell = Callable[[Verdict], Verdict]

CODES = tuple(sorted(Directory.load().by_code))
INBOUND = tuple(e for e in EVENTS if e.cls == "in")
APPLICANT = unlisted("身份矩阵测试机构").code
SHA = "ab" * 32


@dataclass
class Bus:
    """A server with the accounts of everyone; `accounts=False` is the same with one account for all."""

    server: Nats
    keys: Path | None

    @asynccontextmanager
    async def as_(self, who: str) -> AsyncIterator["Somebody"]:
        denied: list[str] = []

        async def hear(error: Exception) -> None:
            if forbidden(error):
                denied.append(str(error))

        seed = self.keys / SEEDS / f"{who}.nk" if self.keys else None
        client = await connect(Settings(nats_url=self.server.url), seed, who, error_cb=hear)
        try:
            yield Somebody(who, client, denied)
        finally:
            await client.close()

    async def stored(self, stream: str, after: int = 0) -> list[tuple[str, str]]:
        """(subject, body) of what a stream holds."""
        async with self.as_(OPERATOR) as operator:
            js = operator.client.jetstream(timeout=10)
            last = (await js.stream_info(stream)).state.last_seq
            found = await asyncio.gather(*(js.get_msg(stream, n) for n in range(after + 1, last + 1)))
            return [(str(m.subject), (m.data or b"").decode()) for m in found]

    async def last(self, stream: str) -> int:
        async with self.as_(OPERATOR) as operator:
            return (await operator.client.jetstream().stream_info(stream)).state.last_seq

    async def holdings(self) -> dict[str, tuple[int, int, int]]:
        """Of every stream what would change if somebody wrote, deleted or made a consumer."""
        async with self.as_(OPERATOR) as operator:
            js = operator.client.jetstream()
            states = {
                name: (await js.stream_info(name)).state for name in (*(str(s.name) for s in STREAMS), BUCKET)
            }
            return {n: (s.first_seq, s.last_seq, s.consumer_count or 0) for n, s in states.items()}


@dataclass
class Somebody:
    who: str
    client: Client
    denied: list[str]

    async def ask(self, subjects: Sequence[str], body: bytes = b"") -> dict[str, Msg]:
        """Say something on every subject in one go, and take the answer to each: the server tells it also when a
        subject is denied, and when nobody hears it."""
        answers: dict[str, Msg] = {}
        prefix = self.client.new_inbox()

        async def hear(message: Msg) -> None:
            answers[subjects[int(message.subject.rpartition(".")[2])]] = message

        mine = await self.client.subscribe(f"{prefix}.*", cb=hear)
        before = len(self.denied)
        for n, subject in enumerate(subjects):
            await self.client.publish(subject, body or self.who.encode(), reply=f"{prefix}.{n}")

        def missing() -> list[str]:
            return [s for s in subjects if s not in answers and not self.was_denied(s, before)]

        await eventually(lambda: not missing(), 20, f"answers to {self.who} on {missing()}")
        await mine.unsubscribe()
        return answers

    def was_denied(self, subject: str, before: int = 0) -> bool:
        # nats-py tells the server's errors in small letters.
        return any(f'"{subject.lower()}"' in line for line in self.denied[before:])

    async def told(self) -> None:
        """Of everything before: what the server refuses it tells in order, but not before it answers a flush."""
        nothing = f"nobody.may.{len(self.denied)}"
        await self.client.publish(nothing, b"")
        await eventually(lambda: self.was_denied(nothing), 10, "the refusal")


def nobody(message: Msg) -> bool:
    return (message.headers or {}).get("Status") == "503"


def taken(message: Msg | None) -> bool:
    """Whether a stream says that it has stored something."""
    if message is None or nobody(message) or not message.data:
        return False
    answer = json.loads(message.data)
    return "seq" in answer and "error" not in answer


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    keep(folder, CODES)
    return folder


async def _provisioned(bus: Bus) -> None:
    async with bus.as_(PROVISIONER) as provisioner:
        await provision(provisioner.client.jetstream(timeout=10))


@pytest.fixture
def bus(tmp_path: Path, keys: Path) -> Iterator[Bus]:
    with Nats(tmp_path / "nats", sync_always=False, config=(keys / ACCOUNTS).read_text()) as server:
        here = Bus(server, keys)
        asyncio.run(_provisioned(here))
        yield here


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Bus]:
    """What the controls use: one account for all."""
    with Nats(tmp_path / "shared", sync_always=False) as server:
        here = Bus(server, None)
        asyncio.run(_provisioned(here))
        yield here


# --- agencies ----------------------------------------------------------------------------------------


async def matrix(bus: Bus, name: str) -> Verdict:
    """Every agency under every agency's token, with every type that comes from outside, and with a file."""
    verdict = Verdict(name)
    for n, who in enumerate(CODES):
        subjects = [
            subject
            for token in (*CODES, APPLICANT, OURS)
            for subject in (*(e.subject(token) for e in INBOUND), file_subject(token, SHA, n))
        ]
        async with bus.as_(who) as agency:
            answers = await agency.ask(subjects)
        got = [s for s in subjects if taken(answers.get(s))]
        verdict.sent += len(subjects)
        verdict.ok += len(got)
        verdict.refused += len(subjects) - len(got)
    found = [*await bus.stored(IN), *await bus.stored(FILE)]
    # By what is stored, not by what was answered.
    verdict.foreign_decisions = sum(subject.split(".")[3] != body for subject, body in found)
    verdict.lost = verdict.ok - len(found)
    return verdict


async def test_an_agency_speaks_under_its_own_token_and_no_other(bus: Bus, oracle: Tell) -> None:
    verdict = oracle(await matrix(bus, "identity matrix"))
    each = len(INBOUND) + 1
    assert verdict.sent == len(CODES) * (len(CODES) + 2) * each
    assert verdict.ok == len(CODES) * each
    assert verdict.refused == verdict.sent - verdict.ok
    assert verdict.clean


async def test_control_with_one_account_everybody_speaks_for_everybody(shared: Bus, oracle: Tell) -> None:
    verdict = oracle(await matrix(shared, "identity matrix, control: one account"))
    assert not verdict.clean
    assert verdict.foreign_decisions == len(CODES) * (len(CODES) + 1) * (len(INBOUND) + 1)


async def questions(bus: Bus, name: str) -> Verdict:
    """Every agency asks under every agency's token, and for an applicant without an account. Whoever answers tells the
    token that it has heard, which is all that it goes by."""
    verdict = Verdict(name)
    async with bus.as_("intake") as intake:

        async def answer(message: Msg) -> None:
            await message.respond(message.subject.split(".")[3].encode())

        for ask in ASKS:
            await intake.client.subscribe(ask.pattern, queue="intake", cb=answer)
        await intake.client.flush()
        for who in CODES:
            subjects = [ask.subject(token) for token in (*CODES, APPLICANT) for ask in ASKS]
            async with bus.as_(who) as agency:
                answers = await agency.ask(subjects)
            told = [message.data.decode() for message in answers.values() if not nobody(message)]
            verdict.sent += len(subjects)
            verdict.ok += told.count(who)
            verdict.refused += len(subjects) - len(told)
            verdict.foreign_decisions += sum(token != who for token in told)
    return verdict


async def test_an_agency_asks_for_itself_and_for_no_other(bus: Bus, oracle: Tell) -> None:
    verdict = oracle(await questions(bus, "identity, questions"))
    assert verdict.ok == len(CODES) * len(ASKS)
    assert verdict.refused == len(CODES) * len(CODES) * len(ASKS)
    assert verdict.clean


async def test_control_with_one_account_everybody_asks_for_everybody(shared: Bus, oracle: Tell) -> None:
    verdict = oracle(await questions(shared, "identity, questions, control: one account"))
    assert verdict.foreign_decisions == len(CODES) * len(CODES) * len(ASKS)


async def test_the_desk_asks_for_those_without_an_account_only(bus: Bus) -> None:
    async with bus.as_(DESK) as desk:
        answers = await desk.ask([ask.subject(token) for token in (CODES[0], APPLICANT) for ask in ASKS])
        assert set(answers) == {ask.subject(APPLICANT) for ask in ASKS}  # where nobody listens just now
        assert all(map(nobody, answers.values()))


def everything_else(token: str) -> list[str]:
    """What an agency has no business with: our events, answers, files, streams, and the server's own affairs."""
    streams = (*(str(s.name) for s in STREAMS), BUCKET)
    api = [
        f"$JS.API.{verb}.{stream}"
        for stream in streams
        for verb in (
            "STREAM.INFO", "STREAM.CREATE", "STREAM.UPDATE", "STREAM.DELETE", "STREAM.PURGE", "STREAM.MSG.GET",
            "STREAM.MSG.DELETE", "STREAM.SNAPSHOT", "STREAM.RESTORE", "CONSUMER.CREATE", "CONSUMER.LIST",
            "CONSUMER.NAMES", "DIRECT.GET",
        )
    ]  # fmt: skip
    for c in CONSUMERS:
        rest = f"{c.stream}.{c.durable}"
        api += [
            f"$JS.API.CONSUMER.{v}.{rest}" for v in ("INFO", "DELETE", "MSG.NEXT", "DURABLE.CREATE", "PAUSE")
        ]
        api += [f"$JS.API.CONSUMER.CREATE.{rest}", f"$JS.ACK.{rest}.1.1.1.1700000000000000000.0"]
    return [
        *(e.subject(token) for e in EVENTS if e.cls != "in"),
        *api,
        *("$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST"),
        f"$JS.API.DIRECT.GET.{FILE}.{file_subject(token, SHA, 0)}",
        f"$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{IN}.review-in",
        *(f"$O.{CATALOGUES}.M.YQ", f"$O.{CATALOGUES}.C.YQ"),
        *(f"$SYS.REQ.SERVER.PING{more}" for more in ("", ".VARZ", ".JSZ", ".KICK")),
        *(f"$SYS.REQ.ACCOUNT.{HUB}.{what}" for what in ("CONNZ", "SUBSZ", "JSZ", "INFO", "CONNS")),
        *(f"$SYS.REQ.ACCOUNT.{token}.CONNZ", "$SYS.ACCOUNT.HUB.CONNECT", "$SYS.REQ.CLAIMS.UPDATE"),
        *(f"{inbox(user)}.x" for user in USERS),
    ]


def allowed(message: Msg) -> bool:
    """Anything but `nobody hears this` and `no JetStream here`."""
    if nobody(message):
        return False
    answer = json.loads(message.data) if message.data else {}
    return (answer.get("error") or {}).get("err_code") != 10039


async def test_an_agency_reaches_nothing_but_its_own_subjects(bus: Bus, oracle: Tell) -> None:
    before = await bus.holdings()
    verdict = Verdict("identity, everything else")
    for n, who in enumerate(CODES):
        other = CODES[n - 1]
        subjects = list(dict.fromkeys([*everything_else(who), *everything_else(other)]))
        async with bus.as_(who) as agency:
            answers = await agency.ask(subjects, b"{}")
            open_ = [s for s in subjects if s in answers and allowed(answers[s])]
            assert open_ == [], who
            verdict.sent += len(subjects)
            verdict.refused += len(subjects) - len(open_)
            verdict.foreign_decisions += len(open_)
    assert await bus.holdings() == before
    assert oracle(verdict).clean


async def test_what_the_server_tells_an_agency_is_of_its_own_account(bus: Bus) -> None:
    who = CODES[3]
    async with bus.as_(OPERATOR), bus.as_(CODES[4]), bus.as_(who) as agency:
        for subject in ("$SYS.REQ.USER.INFO", "$SYS.REQ.ACCOUNT.PING.CONNZ", "$SYS.REQ.SERVER.PING.CONNZ"):
            answer = json.loads((await agency.client.request(subject, b"{}", timeout=5)).data)
            told = answer["data"]
            assert told.get("account") == who or told["num_connections"] == 1


async def test_an_agency_hears_its_own_answers_and_nothing_else(bus: Bus, oracle: Tell) -> None:
    """Whatever it subscribes to: the whole of its account is less than one subject of the others."""
    one, other = CODES[0], CODES[1]
    heard: list[str] = []

    async def hear(message: Msg) -> None:
        heard.append(message.subject)

    accepted = next(e for e in EVENTS if e.name == "event.accepted")
    async with bus.as_(one) as agency, bus.as_("intake") as intake, bus.as_("review") as review:
        for subject in (">", "*.>", "sme.>", f"sme.out.v1.{other}.>", "$SYS.>", "$JS.>", "_INBOX_review.>"):
            await agency.client.subscribe(subject, cb=hear)
        await agency.client.flush()
        heard.clear()
        for who, token in ((review, other), (intake, other), (review, APPLICANT), (review, one)):
            await who.ask([accepted.subject(token)])
        said = [e.subject(other) for e in EVENTS if "review" in e.says and e.cls == "evt"]
        assert all(map(taken, (await review.ask(said)).values()))
        await intake.ask([accepted.subject(one)])
        await eventually(lambda: heard.count(accepted.subject(one)) >= 4, 5, "its own answers")
        await agency.client.flush()
    verdict = Verdict("identity, hearing", sent=len(said) + 5, ok=2, refused=len(said) + 3)
    verdict.foreign_decisions = sum(s not in (accepted.subject(one), "") for s in heard)
    assert oracle(verdict).clean, heard


REPLIES = (
    f"sme.in.v1.{CODES[1]}.decision.made",
    f"sme.file.v1.{CODES[1]}.{SHA}.7",
    f"sme.out.v1.{CODES[1]}.event.accepted",
    f"sme.evt.v1.case.opened.{CODES[1]}",
    "$JS.API.STREAM.PURGE.SME_IN",
    "$JS.API.STREAM.DELETE.SME_EVT",
    "$JS.API.CONSUMER.DELETE.SME_IN.review-in",
    "$JS.ACK.SME_IN.review-in.1.1.1.1700000000000000000.0",
    f"$O.{CATALOGUES}.M.YQ",
)
HEADERS = (
    {"Nats-Request-Info": json.dumps({"acc": CODES[1], "rtt": 1})},
    {"Nats-Rollup": "all"},
    {"Nats-Rollup": "sub"},
    {"Nats-TTL": "1s"},
    {"Nats-Schedule": "@at 2020-01-01T00:00:00Z", "Nats-Schedule-Target": f"sme.in.v1.{CODES[1]}.decision.made"},
    {"Nats-Trace-Dest": f"sme.in.v1.{CODES[1]}.decision.made"},
    {"Nats-Trace-Dest": f"sme.evt.v1.case.opened.{CODES[1]}"},
    {"Nats-Expected-Stream": EVT},
    {"Nats-Batch-Id": "x", "Nats-Batch-Sequence": "1", "Nats-Batch-Commit": "1"},
)  # fmt: skip


async def tricks(bus: Bus, name: str) -> Verdict:
    """An answer or a header that would have the server speak for somebody else; then something honest, which is
    stored after all of it."""
    one, subject = CODES[0], f"sme.in.v1.{CODES[0]}.fact.reported"
    verdict = Verdict(name, sent=len(REPLIES) + len(HEADERS))
    before = await bus.holdings()
    async with bus.as_(one) as agency:
        for reply in REPLIES:
            await agency.client.publish(subject, one.encode(), reply=reply)
        for headers in HEADERS:
            await agency.client.publish(subject, one.encode(), headers=headers)
        assert taken((await agency.ask([subject]))[subject])
    after = await bus.holdings()
    foreign = [s for s, _ in await bus.stored(IN) if s != subject]
    moved = [n for n in after if n != IN and after[n] != before[n]]
    gone = after[IN][0] != 1 or after[IN][2] != before[IN][2]
    verdict.foreign_decisions = len(foreign) + len(moved) + gone
    verdict.refused = verdict.sent
    return verdict


async def test_no_reply_and_no_header_makes_the_server_speak_for_another(bus: Bus, oracle: Tell) -> None:
    assert oracle(await tricks(bus, "identity, tricks")).clean


async def test_control_with_one_account_the_server_speaks_for_another(shared: Bus, oracle: Tell) -> None:
    assert not oracle(await tricks(shared, "identity, tricks, control: one account")).clean


async def test_a_message_id_of_another_says_nothing_for_it(bus: Bus) -> None:
    """The window looks at the id alone, whoever said it: so an id must be one that nobody can guess. What is stored
    stays what its own publisher said."""
    one, other = CODES[0], CODES[1]
    name = "fact.reported"
    async with bus.as_(one) as first, bus.as_(other) as second:
        js = first.client.jetstream(timeout=5), second.client.jetstream(timeout=5)
        headers = {"Nats-Msg-Id": f"{other}:guessed"}
        assert not (await js[0].publish(f"sme.in.v1.{one}.{name}", one.encode(), headers=headers)).duplicate
        told = await js[1].publish(f"sme.in.v1.{other}.{name}", other.encode(), headers=headers)
        assert told.duplicate  # the limit that is told of in the README
        fresh = {"Nats-Msg-Id": f"{other}:nobody-can-guess-this"}
        assert not (await js[1].publish(f"sme.in.v1.{other}.{name}", other.encode(), headers=fresh)).duplicate
    assert await bus.stored(IN) == [(f"sme.in.v1.{c}.{name}", c) for c in (one, other)]


# --- our own -----------------------------------------------------------------------------------------


def universe() -> list[str]:
    """Every subject that means anything, under two tokens."""
    tokens = (CODES[0], APPLICANT)
    files = [file_subject(t, SHA, 0) for t in (*tokens, OURS)]
    return list(
        dict.fromkeys(
            [
                *(e.subject(t) for e in EVENTS for t in tokens),
                *(ask.subject(t) for ask in ASKS for t in tokens),
                "_R_.nobody.knows",
                *(s for t in tokens for s in everything_else(t)),
                *files,
                *(f"$JS.API.DIRECT.GET.{FILE}.{s}" for s in files),
                *("$JS.API.STREAM.CREATE.EVIL", "$JS.API.CONSUMER.CREATE.EVIL", "sme.in.v1.x.y.z.too.deep"),
            ]
        )
    )


def may(user: str, subject: str) -> bool:
    """Told from the registry and from what each service is for; the lists in `accounts.py` are not looked at."""
    if any(user in e.says and subject == e.subject(t) for e in EVENTS for t in (CODES[0], APPLICANT)):
        return True
    if subject.startswith(f"{inbox(user)}."):
        return False
    mine = {f"{c.stream}.{c.durable}" for c in CONSUMERS if c.service == user}
    if subject.removeprefix("$JS.API.CONSUMER.MSG.NEXT.") in mine:
        return True
    if subject.startswith("$JS.ACK.") and ".".join(subject.split(".")[2:4]) in mine:
        return True
    asks = subject.removeprefix("$JS.API.CONSUMER.INFO.")
    file = subject.removeprefix(f"$JS.API.DIRECT.GET.{FILE}.")
    reads = [f"$JS.API.STREAM.{v}.{s.name}" for s in STREAMS for v in ("INFO", "MSG.GET")]
    reads += [f"$JS.API.STREAM.{v}.{BUCKET}" for v in ("INFO", "MSG.GET")]
    match user:
        case "intake":
            answers = subject.startswith(("_R_.", *(f"{inbox(who)}." for who in (DESK, DOOR))))
            answers = answers or subject == f"$JS.API.STREAM.MSG.GET.{OUT}"
            return answers or asks in mine or file != subject or subject.startswith(f"sme.file.v1.{OURS}.")
        case "review":
            return asks in {*mine, f"{IN}.intake-in"} or subject in {
                f"$JS.API.STREAM.MSG.GET.{IN}",
                f"$JS.API.STREAM.MSG.GET.{EVT}",
                *(f"$JS.API.STREAM.{verb}.{AUDIT}" for verb in ("INFO", "MSG.GET")),
            }
        case "notify":
            return asks in mine or (file != subject and file.startswith(f"sme.file.v1.{OURS}."))
        case "export":
            bucket = {f"$JS.API.STREAM.{v}.{BUCKET}" for v in ("INFO", "MSG.GET", "PURGE")}
            return asks in mine or subject in bucket or subject.startswith("$O.")
        case "operator":
            lists = (f"$JS.API.CONSUMER.{v}." for v in ("LIST", "NAMES"))
            general = ("$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST")
            return (
                subject in (*reads, *general)
                or asks != subject
                or (file.startswith("sme.file.v1.") and file != subject)
                or any(subject.startswith(one) for one in lists)
            )
        case "desk":
            said = [*(e.subject(APPLICANT) for e in INBOUND), file_subject(APPLICANT, SHA, 0)]
            said += [ask.subject(APPLICANT) for ask in ASKS]
            return subject in said
        case "door":  # for whoever has an account, and for nobody else
            return subject.startswith(tuple(f"sme.{cls}.v1.{CODES[0]}." for cls in ("in", "file", "ask")))
    raise AssertionError(user)


@pytest.mark.parametrize("user", [*SERVICES, OPERATOR, DESK, DOOR])
async def test_our_own_may_say_what_is_theirs_and_nothing_else(bus: Bus, user: str, oracle: Tell) -> None:
    subjects = universe()
    async with bus.as_(user) as somebody:
        for subject in subjects:
            await somebody.client.publish(subject, b"{}")
        await somebody.told()
        let = {s for s in subjects if not somebody.was_denied(s)}
    wanted = {s for s in subjects if may(user, s)}
    assert (let - wanted, wanted - let) == (set(), set())
    verdict = Verdict(f"identity, {user}", sent=len(subjects), ok=len(let), refused=len(subjects) - len(let))
    verdict.foreign_decisions = len(let - wanted)
    assert oracle(verdict).clean


async def test_nobody_but_the_provisioner_makes_a_consumer(bus: Bus) -> None:
    """Whoever may, may have stored bytes delivered under any subject; and the provisioner says nothing itself."""
    making = [f"$JS.API.CONSUMER.{v}.{IN}.evil" for v in ("CREATE", "DURABLE.CREATE")]
    for user in USERS:
        async with bus.as_(user) as somebody:
            for subject in (*making, *(e.subject(CODES[0]) for e in EVENTS)):
                await somebody.client.publish(subject, b"{}")
            await somebody.told()
            assert any(somebody.was_denied(s) for s in making) is (user != PROVISIONER)
            if user == PROVISIONER:
                assert all(somebody.was_denied(e.subject(CODES[0])) for e in EVENTS)


@pytest.mark.parametrize("user", USERS)
async def test_our_own_hear_their_own_answers_only(bus: Bus, user: str) -> None:
    subjects = [
        *(
            ">",
            "sme.>",
            "sme.in.>",
            "sme.evt.>",
            f"sme.out.v1.{CODES[0]}.event.*",
            *(ask.pattern for ask in ASKS),
            "sme.file.>",
            "$SYS.>",
            "$JS.>",
        ),
        *("_INBOX.>", "*.>", *(f"{inbox(u)}.>" for u in USERS)),
    ]
    more = {
        "intake": {ask.pattern for ask in ASKS},
        OPERATOR: {
            *("sme.>", "sme.in.>", "sme.evt.>", "sme.file.>", f"sme.out.v1.{CODES[0]}.event.*"),
            *(ask.pattern for ask in ASKS),
        },
        DESK: {f"sme.out.v1.{CODES[0]}.event.*"},
    }
    async with bus.as_(user) as somebody:
        for subject in subjects:
            await somebody.client.subscribe(subject)
        await somebody.told()
        heard = {subject for subject in subjects if not somebody.was_denied(subject)}
        somebody.denied.clear()
        await somebody.client.subscribe(f"{inbox('review')}.>", queue="a")  # nor by way of a queue group
        await somebody.told()
        assert somebody.was_denied(f"{inbox('review')}.>") is (user != "review")
    assert heard == {f"{inbox(user)}.>"} | more.get(user, set())


# --- the door ----------------------------------------------------------------------------------------


async def test_who_has_no_key_or_a_wrong_one_is_not_let_in(bus: Bus, tmp_path: Path) -> None:
    keep(tmp_path / "others", CODES)
    strange: list[dict[str, Any]] = [{}, {"user": "intake", "password": "intake"}, {"token": "x"}]
    strange += [{"nkeys_seed": str(tmp_path / "others" / SEEDS / f"{w}.nk")} for w in ("intake", CODES[0])]
    for credentials in strange:
        assert "Authorization Violation" in await turned_away(bus.server.url, **credentials)


async def turned_away(url: str, **credentials: Any) -> str:
    """Why the server does not let somebody in."""
    client = Client()
    with pytest.raises(nats.errors.Error) as error:
        await client.connect(
            url, allow_reconnect=False, max_reconnect_attempts=1, error_cb=_quiet, **credentials
        )
    await client.close()
    return str(error.value)


async def _quiet(error: Exception) -> None:
    return None


@pytest.mark.parametrize("cls", ["in", "file", "ask", "out"])
def test_a_configuration_that_imports_anothers_token_is_not_loaded(
    tmp_path: Path, keys: Path, cls: str
) -> None:
    text = (keys / ACCOUNTS).read_text()
    wrong = text.replace(f'subject: "sme.{cls}.v1.{CODES[0]}.>"', f'subject: "sme.{cls}.v1.{CODES[1]}.>"')
    assert wrong != text
    with pytest.raises(ServerFailed, match="not authorized"):
        Nats(tmp_path / "nats", config=wrong).start()


async def test_an_agency_takes_a_limited_share(bus: Bus) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(32):
            await stack.enter_async_context(bus.as_(CODES[0]))
        assert bus.keys
        seed = str(bus.keys / SEEDS / f"{CODES[0]}.nk")
        assert "maximum account active connections" in await turned_away(bus.server.url, nkeys_seed=seed)
        await stack.enter_async_context(bus.as_(CODES[1]))
