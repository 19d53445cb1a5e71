"""Evil files and broken chunks, filed over the real bus among good ones (guide T24, T25).

What each kind of file is refused for is in `tests/unit/test_workbook.py` and `test_scans.py`, where most are made.
"""

import asyncio
import hashlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import nats
import nats.errors
import pytest
from nats.aio.client import Client

from services.cli.local import Local
from services.intake.packages import MOST_ROWS
from services.intake.sheets import MB
from shared.contracts import registry
from shared.contracts.registry import CHUNK, EventType, file_subject
from shared.notices.directory import Directory
from shared.runtime.embedded import eventually
from shared.runtime.files import MOST_CHUNKS, send
from shared.runtime.streams import FILE, IN
from tests import workbooks as made
from tests.chaos.oracle import Verdict
from tests.scans import jpg, pdf, png
from tests.unit import test_scans, test_workbook
from tests.unit.test_scans import NAMES
from tests.unit.test_workbook import F3, F6, KIT, SNEAKY
from tests.workbooks import head

Oracle = Callable[[Verdict], Verdict]

pytestmark = pytest.mark.timeout(900)

NOTICE = "gz-collection-2025q1"
DURING = datetime(2025, 3, 3, 2, 0, tzinfo=UTC)
EVIL_ONE, GOOD_ONE = "440106", "440103"
DIRECTORY = Directory.load()
TOGETHER = 6
"""Evil files in one package, with a good workbook and a good scan."""
MOST = 300 * MB
"""Of a service's memory, whatever is filed."""

# The quick look at this one never ends: every `<c` is the start of a cell, and none has an end.
SLOW = "a cell without end", "workbook.timeout", lambda: made.with_sheet_xml("<c " * 330_000)


def wordy() -> bytes:
    """One long text, which thousands of cells are: small in the file, and 200 MB to whoever spells it out."""
    return made.xlsx(
        {
            "附件6": [
                head(F6),
                *([i, f"甲{i}", "长" * 9000, "1", "检测", "张三 83726619"] for i in range(7000)),
            ]
        }
    )


def evil(full: bool) -> dict[str, tuple[str, str, Callable[[], bytes]]]:
    """name: role, code, file. What is empty or over 20 MB is refused by the event's own schema: see below."""
    kinds = {f"workbook: {k}": ("workbook", c, m) for k, (c, m) in test_workbook.EVIL.items()}
    kinds |= {f"scan: {k}": ("scan", c, m) for k, (c, m) in test_scans.EVIL.items()}
    for name in ("workbook: nothing", "workbook: too large", "scan: nothing", "scan: too large a scan"):
        del kinds[name]
    kinds["workbook: all memory"] = ("workbook", "workbook.memory", lambda: SNEAKY)
    kinds["workbook: all words"] = ("workbook", "workbook.long", wordy)
    if full:
        kinds[SLOW[0]] = ("workbook", *SLOW[1:])
    return kinds


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    here = Local(
        tmp_path_factory.mktemp("files"), sync_always=False, mail=False, services=("intake",), accounts=False
    )
    here.clock.write_text(str((DURING - datetime.now(UTC)).total_seconds()))
    try:
        yield here.start(timeout=100)
    finally:
        here.stop()


# --- asking -------------------------------------------------------------------------------------------


def form(name: str) -> bytes:
    """A good annex whose only row nobody else files."""
    return made.xlsx({"附件6": [head(F6), [1, KIT[0], f"{name}光谱仪", *KIT[2:]]]})


def ref(body: bytes, role: str, name: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "sha256": hashlib.sha256(body).hexdigest(), "size": len(body), "name": name, **more}


@dataclass
class Desk:
    """What publishes and hears the answers, by event."""

    client: Client
    db: asyncpg.Connection
    answers: dict[Any, dict[str, Any]] = field(default_factory=dict)

    async def hear(self, message: Any) -> None:
        answer = json.loads(message.data)["data"]
        id_ = (answer.get("accepted") or answer["rejected"]["id"]).replace("~", " ")
        # An answer may be said again, in the same words: the stream keeps one.
        assert self.answers.setdefault(id_, answer) == answer

    async def say(self, type_: EventType, publisher: str, id_: str, data: dict[str, Any]) -> None:
        agency = DIRECTORY.find(publisher)
        assert agency
        who = {"code": publisher, "kind": agency.kind, "name": agency.name, "miit_registered": True}
        document = {
            "specversion": "1.0",
            "id": id_.replace(" ", "~"),
            "source": f"urn:cn:gov:gz:{publisher}:oa",
            "type": type_.ce_type,
            "time": "2025-03-03T09:00:00+08:00",
            "data": {"notice": NOTICE, "filer": who, **data},
        }
        body = json.dumps(document, ensure_ascii=False).encode()
        await self.client.jetstream().publish(type_.subject(publisher), body, stream=IN)

    async def file(self, publisher: str, id_: str, files: Sequence[dict[str, Any]]) -> None:
        await self.say(registry.PACKAGE_FILED, publisher, id_, {"files": list(files)})

    async def good(self, publisher: str, id_: str, sheet: str = "附件6.xlsx") -> list[dict[str, Any]]:
        """A workbook and a scan that nothing is wrong with, sent."""
        made_ = [(form(id_), "workbook", sheet), (pdf(say=id_), "scan", "盖章扫描件.pdf")]
        for body, _, _ in made_:
            await send(self.client, publisher, body)
        return [ref(*one) for one in made_]

    async def until(self, n: int, patience: float = 100) -> None:
        await eventually(lambda: len(self.answers) >= n, patience, f"{n} answers")

    def told(self, id_: str) -> list[tuple[str, str]]:
        """Code and place of whatever is hard."""
        hard = [e for e in self.answers[id_].get("errors", ()) if e["severity"] == "hard"]
        assert all(max(e["detail"]) >= "\u4e00" for e in hard)
        return [(e["code"], e["pointer"]) for e in hard]


@asynccontextmanager
async def desk(local: Local) -> AsyncIterator[Desk]:
    client = await nats.connect(local.nats.url)
    db = await asyncpg.connect(local.postgres.dsn("yiqi"))
    found = Desk(client, db)
    await client.subscribe("sme.out.v1.*.event.*", cb=found.hear)
    try:
        yield found
    finally:
        await client.close()
        await db.close()


# --- watching ------------------------------------------------------------------------------------------


def _peak(pid: int) -> int:
    """Most memory that a process has had, in bytes; 0 when it is gone."""
    with suppress(OSError, IndexError):
        text = Path(f"/proc/{pid}/status").read_text()
        return int(text.partition("VmHWM:")[2].split()[0]) * 1024
    return 0


def _below(pid: int) -> Iterator[int]:
    with suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            yield int(child)
            yield from _below(int(child))


class Watch:
    """A service while files are filed: the same process all the time, and what it and its children take."""

    def __init__(self, local: Local, name: str = "intake") -> None:
        self.local, self.name = local, name
        self.pid = local.running[name].pid
        self.children = self.processes = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        seen: set[int] = set()
        while not self._end.wait(0.01):
            for child in _below(self.pid):
                seen.add(child)
                self.children = max(self.children, _peak(child))
        self.processes = len(seen)

    def __enter__(self) -> "Watch":
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")  # the peak from now on
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    @property
    def service(self) -> int:
        return _peak(self.pid)

    def check(self) -> None:
        assert self.local.running[self.name].poll() is None
        assert self.local.running[self.name].pid == self.pid
        assert self.local.page(self.name, "readyz") == "ok\n"
        assert self.service < MOST, f"{self.service // MB} MB"
        log = (self.local.directory / f"{self.name}.log").read_text()
        assert '"level": "ERROR"' not in log
        assert "Traceback" not in log

    def line(self, what: str) -> str:
        return f"{what} (service {self.service // MB} MB, child {self.children // MB} MB)"


# --- T25 -----------------------------------------------------------------------------------------------


async def test_evil_files_are_refused_by_name_and_harm_nobody(
    local: Local, oracle: Oracle, full: bool
) -> None:
    kinds = evil(full)
    assert len(kinds) >= 40
    names = [n for n in NAMES if not set(n) & set("\0\ud800")]  # no event may hold those: `test_bytes.py`
    async with desk(local) as d:
        with Watch(local) as watch:
            packages = [list(kinds)[at : at + TOGETHER] for at in range(0, len(kinds), TOGETHER)]
            for n, together in enumerate(packages):
                files = await d.good(EVIL_ONE, f"mixed {n}")
                for kind in together:
                    role, _, make = kinds[kind]
                    body = make()
                    await send(d.client, EVIL_ONE, body)
                    files.append(ref(body, role, names[len(files) % len(names)]))
                await d.file(EVIL_ONE, f"mixed {n}", files)
                hostile = await d.good(GOOD_ONE, f"good {n}", names[n % len(names)])
                await d.file(GOOD_ONE, f"good {n}", hostile)
            await d.until(2 * len(packages))
        watch.check()
        wrong = {}
        for n, together in enumerate(packages):
            told = d.told(f"mixed {n}")
            for i, kind in enumerate(together, 2):
                found = [code for code, place in told if place == f"#/data/files/{i}"]
                if found != [kinds[kind][1]]:
                    wrong[kind] = found
            assert len(told) == len(together)
        took = [k for k in d.answers if d.answers[k].get("accepted")]
        sent = len(kinds) + 2 * len(packages)
        verdict = oracle(
            Verdict(
                watch.line(f"T25 {len(kinds)} kinds of evil files"),
                sent=sent,
                ok=len(took),
                refused=len(kinds) - len(wrong),
                lost=sent - len(took) - len(kinds) + len(wrong),
            )
        )
        assert (verdict.lost, wrong) == (0, {})
        # Of what was refused nothing is kept, under whatever name; what is kept has a name that stays one.
        kept = {r["sha256"]: r["name"] for r in await d.db.fetch("select sha256, name from intake.file")}
        assert not kept.keys() & {hashlib.sha256(make()).hexdigest() for _, _, make in kinds.values()}
        assert set(kept.values()) <= {"附件6.xlsx", "盖章扫描件.pdf", *NAMES.values()}
        filed = await d.db.fetch("select title from intake.submission where filer <> '440100'")
        assert len(filed) == len(took)


BARE = """
import resource, sys
from pathlib import Path
from services.intake import workbook
from shared.notices.load import load_all

resource.setrlimit(resource.RLIMIT_AS, (1500 << 20, 1500 << 20))  # so that the machine is safe
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
notice = load_all()["gz-collection-2025q1"]
for path in sys.argv[1:]:
    print(len(workbook.read(Path(path).read_bytes(), path, notice)), flush=True)
"""


def test_control_the_same_bomb_read_by_the_service_itself(tmp_path: Path, oracle: Oracle) -> None:
    """In a process that reads what is filed without the limited child, what comes behind the bomb is lost."""
    paths = [tmp_path / name for name in ("before.xlsx", "bomb.xlsx", "after.xlsx")]
    for path, body in zip(paths, (form("前"), SNEAKY, form("后")), strict=True):
        path.write_bytes(body)
    done = subprocess.run(
        [sys.executable, "-c", BARE, *map(str, paths)],
        capture_output=True,
        timeout=100,
        cwd=Path(__file__).parents[2],
    )
    took = len(done.stdout.split())
    verdict = oracle(Verdict("T25 control, without the child", sent=3, ok=took, lost=3 - took))
    assert done.returncode != 0
    assert (verdict.ok, verdict.lost) == (1, 2)


# --- T24 -----------------------------------------------------------------------------------------------


def scan(size: int, say: str) -> bytes:
    """A sound PDF of this many bytes."""
    more = size
    while len(made_ := pdf(say=say + "x" * more)) != size:
        more += size - len(made_)  # the number of a place has as many digits as it has
    return made_


def pieces(body: bytes, size: int = CHUNK) -> list[bytes]:
    return [body[at : at + size] for at in range(0, len(body), size)]


async def put(d: Desk, publisher: str, sha256: str, chunks: dict[int, bytes]) -> None:
    js = d.client.jetstream(timeout=10)
    await asyncio.gather(
        *(js.publish(file_subject(publisher, sha256, i), body, stream=FILE) for i, body in chunks.items())
    )


THREE = CHUNK * 2 + 1000


async def test_broken_chunks_are_refused_and_their_neighbours_are_taken(local: Local, oracle: Oracle) -> None:
    missing = "file.missing", "#/data/files/2"
    async with desk(local) as d:
        expected: dict[str, tuple[str, str] | None] = {}

        async def filed(
            kind: str,
            chunks: Callable[[list[bytes]], dict[int, bytes]],
            outcome: tuple[str, str] | None,
            body: bytes = b"",
            by: str = EVIL_ONE,
            **lie: Any,
        ) -> None:
            body = body or scan(THREE, kind)
            said = ref(body, "scan", "扫描件二.pdf") | lie
            await put(d, by, said["sha256"], chunks(pieces(body)))
            await d.file(EVIL_ONE, kind, [*await d.good(EVIL_ONE, kind), said])
            expected[kind] = outcome

        def whole(parts: list[bytes]) -> dict[int, bytes]:
            return dict(enumerate(parts))

        with Watch(local) as watch:
            await filed("all there", whole, None)
            await filed("an extra chunk", lambda p: {**whole(p), 3: b"more"}, None)
            await filed("small chunks", lambda p: dict(enumerate(pieces(b"".join(p), 16 * 1024))), None)
            await filed("20 MB", whole, None, scan(20 * MB, "20 MB"))
            await filed("first missing", lambda p: {1: p[1], 2: p[2]}, missing)
            await filed("middle missing", lambda p: {0: p[0], 2: p[2]}, missing)
            await filed("last missing", lambda p: {0: p[0], 1: p[1]}, missing)
            await filed("none there", lambda p: {}, missing)
            await filed("out of order", lambda p: {0: p[1], 1: p[0], 2: p[2]}, missing)
            await filed("one byte other", lambda p: {**whole(p), 1: p[1][:-1] + b"!"}, missing)
            await filed("a hash of nothing", whole, missing, sha256="0" * 64)
            await filed("longer than it says", whole, missing, size=THREE - 1)
            await filed("shorter than it says", whole, missing, size=THREE + 1)
            await filed("much shorter", whole, missing, size=20 * MB)
            await filed("empty chunks", lambda p: dict.fromkeys(range(3000), b""), missing)
            bytes_ = dict.fromkeys(range(MOST_CHUNKS + 100), b"x")
            await filed("chunks of a byte", lambda p: bytes_, missing, b"x" * len(bytes_))
            await filed("sent by another", whole, missing, by=GOOD_ONE)
            kept = scan(THREE, "kept of another")
            await send(d.client, GOOD_ONE, kept)
            await d.file(
                GOOD_ONE, "its own", [*await d.good(GOOD_ONE, "its own"), ref(kept, "scan", "a.pdf")]
            )
            await d.until(len(expected) + 1)
            await filed("kept of another", lambda p: {}, missing, kept)
            with pytest.raises(nats.errors.MaxPayloadError):
                await put(d, EVIL_ONE, "1" * 64, {0: bytes(MB + 1)})
            await filed("a chunk of 1 MB and more", lambda p: {}, missing, b"%PDF-" + bytes(MB))
            sizes = {"0 bytes": 0, "20 MB + 1": 20 * MB + 1, "1 TB": 2**40, "less than nothing": -1}
            for kind, size in sizes.items():
                await filed(kind, whole, ("schema.", "#/data/files/2/size"), size=size)
            await filed("no hash", lambda p: {}, ("schema.", "#/data/files/2/sha256"), sha256="../../etc")
            await d.until(len(expected) + 1)
        watch.check()

        def is_so(kind: str) -> bool:
            told, wanted = d.told(kind), expected[kind]
            if wanted is None:
                return told == []
            return len(told) == 1 and told[0][0].startswith(wanted[0]) and told[0][1] == wanted[1]

        wrong = {k: d.told(k) for k in expected if not is_so(k)}
        assert wrong == {}
        sound = [k for k, wanted in expected.items() if wanted is None]
        schema = [k for k, wanted in expected.items() if wanted and wanted[0] == "schema."]
        # Of a package whose event is no event, nothing is read; of all others the good neighbours are taken.
        took = [k for k in expected if d.answers[k].get("accepted")]
        assert set(took) == expected.keys() - set(schema)
        dead = await d.db.fetchval("select count(*) from intake.dead")
        verdict = oracle(
            Verdict(
                watch.line("T24 chunks"),
                sent=len(expected),
                ok=len(sound),
                dead=dead,
                refused=len(expected) - len(sound) - len(schema),
                lost=len(schema) - dead,
            )
        )
        assert verdict.clean


async def test_a_file_that_thousands_of_rows_name_is_fetched_once_a_batch(
    local: Local, oracle: Oracle, full: bool
) -> None:
    """Twenty megabytes each time would be terabytes; too many files in one row are no event."""
    rows = 3000 if full else 600
    sound, broken = scan(20 * MB, "named by all"), scan(20 * MB, "missing its end")
    async with desk(local) as d:
        await send(d.client, EVIL_ONE, sound)
        short = dict(enumerate(pieces(broken)))
        del short[39]
        await put(d, EVIL_ONE, ref(broken, "scan", "")["sha256"], short)
        files = (
            [ref(sound, "scan", "a.pdf")],
            [ref(broken, "scan", "b.pdf")],
            [ref(sound, "scan", "a.pdf")] * 41,
        )
        started = time.monotonic()
        with Watch(local) as watch:
            for n in range(rows):
                values = {"company_name": "甲公司", "equipment_name": f"第{n}台光谱仪", "quantity": "3台",
                          "main_use": "检测", "contact": "张三 83726619"}  # fmt: skip
                data = {"form": "F6", "values": values, "files": files[n % 3]}
                await d.say(registry.SUBMISSION_FILED, EVIL_ONE, f"row {n}", data)
            await d.until(rows)
        watch.check()
        told = [d.told(f"row {n}") for n in range(rows)]
        assert told[0::3] == [[]] * len(told[0::3])
        assert {code for one in told[1::3] for code, _ in one} == {"file.missing"}
        assert told[2::3] == [[("schema.too_long", "#/data/files")]] * len(told[2::3])
        oracle(
            Verdict(
                watch.line(f"T24 one file of many rows, {time.monotonic() - started:.0f} s"),
                sent=rows,
                ok=len(told[0::3]),
                dead=len(told[2::3]),
                refused=len(told[1::3]),
            )
        )


async def test_the_largest_package_stays_within_the_memory(local: Local, oracle: Oracle) -> None:
    """As many rows as are judged together, and every one of them wrong; more are refused before they are judged."""
    wrong = ["不存在的领域", "", "名", "2025", "", "x" * 600, "", "无"]
    rows = [head(F3), *([i, *wrong] for i in range(MOST_ROWS // 2))]
    async with desk(local) as d:
        sheets = [made.xlsx({"附件3": rows, "n": [[n]]}) for n in range(3)]
        seal = pdf(say="large")
        for body in (*sheets, seal, jpg(), png()):
            await send(d.client, EVIL_ONE, body)
        with Watch(local) as watch:
            named = [ref(body, "workbook", f"{n}.xlsx") for n, body in enumerate(sheets)]
            await d.file(EVIL_ONE, "large", [*named, ref(seal, "scan", "a.pdf")])
            await d.file(GOOD_ONE, "after", await d.good(GOOD_ONE, "after"))
            await d.until(2, 110)
        watch.check()
        assert d.answers["large"]["rejected"]
        rows_ = await d.db.fetchval(
            "select rows from intake.package where publisher = $1 order by rows desc", EVIL_ONE
        )
        assert rows_ == MOST_ROWS
        assert d.told("after") == []
        oracle(Verdict(watch.line("T24 the largest package"), sent=2, ok=1, refused=1))
