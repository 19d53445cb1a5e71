"""A year of reminders: 2026 by an injected clock, all notices, eleven districts, thousands of cases, restarts anywhere.

The clock jumps from event to event. Cases move by review's own functions, their events go through notify's own delivery
and sweep into a real PostgreSQL; what had to be entered, and when, is counted anew by `owed_year.py`. No bus and no
mail: those have their own tests.

    python -m tests.bench.year [cases]
"""

import asyncio
import heapq
import random
import sys
import tempfile
import time as wall
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid5

from rich.console import Console
from rich.table import Table

from services.notify.handlers import Notify
from services.notify.recipients import People
from services.review.case import Case, Step, says
from services.review.decide import elapse, open_case
from services.review.duties import fact, report
from services.review.telling import SAYS, changed
from services.review.terms import entering, moved
from shared.contracts import registry
from shared.contracts.case import FactReported
from shared.contracts.submission import SubmissionAccepted
from shared.contracts.types import Party
from shared.notices.calendar import Calendar
from shared.notices.directory import Agency, Directory
from shared.notices.load import CompiledNotice, load
from shared.runtime.clock import Clock
from shared.runtime.database import Connection, Database, connect, migrate
from shared.runtime.decode import Raw
from shared.runtime.delivery import Delivery
from shared.runtime.embedded import Postgres
from tests.bench import owed_year
from tests.bench.owed_year import DAY, SHANGHAI, Comparison, Need, Subject, forth, midnight, working

ROOT = Path(__file__).parents[2]
DATA = ROOT / "shared/notices/data"
SPACE = UUID("2026" * 8)
NEW_YEAR, END = date(2026, 1, 1), date(2027, 1, 1)
SETTLED = date(2025, 3, 1)
"""Until when all that titles owed is done."""
CITY, HEAD = "440100", "cyyqsh"
SILENT = "440103"
"""The department that files nothing itself, and so is reminded to the end."""
HEARD = {e.name: e for e in registry.EVENTS if e.cls == "evt"}
NEVER = midnight(END + 400 * DAY)


@cache
def notices() -> dict[str, CompiledNotice]:
    """All of them, with the dates of 2026: a Saturday, a holiday and a day that is worked among them."""
    collection = (DATA / "gz-collection-2025q1.yaml").read_text(encoding="utf-8")
    collection = collection.replace("gz-collection-2025q1", "gz-collection-2026q1").replace(
        "year: 2025", "year: 2026"
    )
    for old in ("2025-03-07", "2025-06-01", "2025-06-30"):
        collection = collection.replace(old, old.replace("2025", "2026"))
    clusters = (
        (DATA / "gz-clusters.yaml").read_text(encoding="utf-8").replace("on: 2027-12-29", "on: 2026-12-29")
    )
    stations = (DATA / "gz-stations-2019.yaml").read_text(encoding="utf-8")
    for old, new in (
        ("on: 2019-06-18", "on: 2026-06-18"),
        ("on: 2019-06-21", "on: 2026-06-21"),
        ("on: 2019-12-31", "on: 2026-12-31"),
    ):
        stations = stations.replace(old, new)
    stations = stations.replace("gz-stations-2019", "gz-stations-2026")
    made = (load(text.encode(), "2026.yaml") for text in (collection, clusters, stations))
    return {one.notice.id: one for one in made}


ROUND, CLUSTERS, STATIONS = "gz-collection-2026q1", "gz-clusters", "gz-stations-2026"


def directory() -> Directory:
    """As it is, and a park: of those whom the date of 天河 binds the sources name none."""
    park = Agency(
        code="park-th", kind="K3", name="试验园区", short="试验园区", district="440106", source="试验"
    )
    return Directory(agencies=(*Directory.load().agencies, park))


class Hand(Clock):
    """A clock that is set by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.moment = midnight(NEW_YEAR)

    @property
    def offset(self) -> timedelta:
        return timedelta()

    def now(self) -> datetime:
        return self.moment


class Died(BaseException):
    """The process ended here."""


class Mortal:
    """A database whose user dies at the end of the transaction that it is told to: before the commit or after it."""

    def __init__(self, engine: Database) -> None:
        self.engine = engine
        self.dies: tuple[int, bool] | None = None

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Connection]:
        n, before = self.dies or (0, False)
        if self.dies:
            self.dies = (n - 1, before) if n > 1 else None
        async with self.engine.begin() as conn:
            yield conn
            if n == 1 and before:
                raise Died
        if n == 1:
            raise Died

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)


# --- lives -------------------------------------------------------------------------------------------

Act = Callable[["World", Case], list[Step]]
Life = Iterator[tuple[datetime, Act]]


@dataclass
class World:
    known: dict[str, CompiledNotice]
    directory: Directory
    calendar: Calendar
    chance: random.Random
    needs: list[Need] = field(default_factory=list)
    done: dict[tuple[str, str, str], datetime] = field(default_factory=dict)
    """Since when a unit has done what spares it a reminder."""
    now: datetime = field(default_factory=lambda: midnight(NEW_YEAR))

    def need(self, *args: Any, **more: Any) -> Need:
        self.needs.append(one := Need(*args, **more))
        return one

    def hour(self, day: date) -> datetime:
        """Some moment of a working day: people act in office hours."""
        return datetime(day.year, day.month, day.day, self.chance.choice((10, 11, 15, 17)), tzinfo=SHANGHAI)


def go(*keys: str) -> Act:
    """Decisions as they are made, one after the other in one moment; who may make them is tested elsewhere."""

    def act(world: World, case: Case) -> list[Step]:
        notice = world.known[case.notice].notice
        at = world.now
        steps = []
        for key in keys:
            stage = notice.procedure.by_id[case.stage]
            assert key in stage.outcomes, (case.title, case.stage, key, at, case.began, case.due)
            outcome = stage.outcomes[key]
            after = moved(notice, case, outcome, at, world.calendar)
            steps.append(Step(after, says(notice, case, after), CITY, key, at, reason="理由"))
            case = after
        return steps

    return act


def told(form: str, period: str, **values: Any) -> Act:
    def act(world: World, case: Case) -> list[Step]:
        filed = filing(case.notice, form, case.filer, case.district, world.now, f"{case.case}{form}{period}")
        filed = filed.model_copy(update={"about": case.case, "period": period, "values": values})
        return report(world.known[case.notice].notice, case, filed, world.now, world.calendar)

    return act


def altered(world: World, case: Case) -> list[Step]:
    at = world.now
    said = FactReported(case=case.case, kind="change", occurred_on=at.date(), detail="运营管理机构变更")
    steps = fact(world.known[case.notice].notice, case, said, CITY, at, world.calendar)
    assert isinstance(steps, list)
    return steps


def filing(
    notice: str, form: str, filer: Party, district: str, at: datetime, name: str
) -> SubmissionAccepted:
    case = uuid5(SPACE, name)
    return SubmissionAccepted(
        case=case,
        number=f"{form}-{case.hex[:8].upper()}",
        revision=1,
        notice=notice,
        form=form,
        filer=filer,
        recommender=district,
        unit=district if filer.kind == "K6" else filer.code,
        district=district,
        item_kind="activity" if notice == ROUND else "title",
        title=f"第{case.hex[:4]}号",
        values={},
        findings=(),
        late=False,
        received=at,
    )


def begin(world: World, notice: str, form: str, filer: Party, district: str, name: str, **more: Any) -> Act:
    def act(_: World, __: Case) -> list[Step]:
        filed = filing(notice, form, filer, district, world.now, name).model_copy(update=more)
        for fact_ in ("filed", *filed.counts):
            world.done.setdefault((notice, filed.unit, fact_), world.now)
        return [open_case(world.known[notice].notice, filed, world.now, world.calendar)]

    return act


def item(world: World, name: str, district: str) -> Life:
    """Of the round: filed until its day, returned never, once or twice, corrected in time, late or never."""
    chance = world.chance
    own = chance.random() < 0.3 and district != SILENT
    filer = (
        department(world, district)
        if own
        else Party(code=f"k6-{name}", kind="K6", name=f"企业{name}", email=f"{name}@e.example")
    )
    counts = ("june_activities", "service_month") if own and chance.random() < 0.5 else ()
    day = forth(date(2026, 1, 12) + chance.randrange(50) * DAY)
    at = world.hour(day)
    yield at, begin(world, ROUND, "F3", filer, district, name, counts=counts)
    yield (at := world.hour(day := working(day, 1 + chance.randrange(4)))), go("recommend")
    for _ in range(chance.choice((0, 0, 1, 1, 2))):
        yield (at := world.hour(day := working(day, 1 + chance.randrange(9)))), go("return")
        due = working(day, 5)
        back_in = chance.choice((1, 2, 3, 4, 5, 7, 12, None))
        until = world.hour(working(day, back_in)) if back_in else NEVER
        world.need("returned case", (name, "补正（市局退回）"), [filer.code], "term", due, day, [(at, until)])
        if back_in is None:
            return
        day = until.date()
        yield until, go("resubmit")
    yield world.hour(working(day, 2)), go("accept", "select", "publish")


def department(world: World, district: str) -> Party:
    agency = next(a for a in world.directory.of_kind("K2") if a.district == district)
    return Party(code=agency.code, kind="K2", name=agency.name, email=agency.email)


def cluster(world: World, name: str, district: str) -> Life:
    """Recognised in 2023 and so over in 2026: it reports or not, changes, is renewed or is over."""
    chance, filer = world.chance, department(world, district)
    whom = [filer.code, district]
    recognised = date(2023, 1, 10) + chance.randrange(340) * DAY
    over = owed_year.years_on(recognised, 3)
    start = midnight(NEW_YEAR) + timedelta(minutes=1)

    def stands(_: World, __: Case) -> list[Step]:
        notice = world.known[CLUSTERS].notice
        filed = filing(CLUSTERS, "F15", filer, district, midnight(recognised), name)
        case = open_case(notice, filed, midnight(recognised), world.calendar).case
        there = entering(
            notice, case, notice.procedure.by_id["recognised"], midnight(recognised), world.calendar
        )
        # What it owed in the years before is done: only this year's is counted here.
        fresh = entering(
            notice,
            replace(there, owed=()),
            notice.procedure.by_id["recognised"],
            midnight(SETTLED),
            world.calendar,
        )
        now = replace(there, owed=fresh.owed, version=2)
        return [Step(now, "published", CITY, "publish", start)]

    yield start, stands
    acts: list[tuple[datetime, Act]] = []
    validity = world.need(
        "validity (DL-07, DL-08)",
        (name, "市级集群（有效期内）"),
        [*whom, CITY],
        "expiry",
        over,
        recognised,
        [],
    )
    # The annual report, by the last day of February.
    last = date(2026, 2, 28)
    reported = chance.random() < 0.85
    at = world.hour(forth(date(2026, 1, 5) + chance.randrange(52) * DAY))
    ends = midnight(over + DAY)
    # Also what is over, and stands for revocation, owes it.
    report_until = at if reported else midnight(last + DAY)
    duty = ("集群年度培育情况信息表", "2025")
    world.need("annual report (DL-06)", (name, *duty), whom, "duty", last, SETTLED, [(start, report_until)])
    held_from = None
    if reported:
        acts.append((at, told("F16", "2025")))
    else:
        world.need(
            "missed",
            (name, "missed", *duty),
            [filer.code],
            "missed",
            last,
            NEW_YEAR,
            [(midnight(last + DAY), NEVER)],
        )
        held_from = midnight(last + DAY)
    if held_from and ends > held_from:
        # The clock has brought it before the city, whose validity rests meanwhile.
        kept = world.hour(working(date(2026, 3, 2), 3 + chance.randrange(25)))
        validity.spans.append((start, held_from))
        if kept.date() + 10 * DAY < over and chance.random() < 0.7:
            acts.append((kept, go("keep")))
            validity.spans.append((kept, ends))
        else:
            ends = held_from
    else:
        validity.spans.append((start, ends))
    first, _ = validity.spans[-1]
    if held_from is None or len(validity.spans) > 1:
        # Some ask for a re-evaluation in the last half year, some of those in the last days.
        asks = world.hour(forth(over - chance.choice((170, 120, 60, 20, 5)) * DAY))
        if chance.random() < 0.6 and first + DAY < asks < ends - DAY and asks.date() >= over - 180 * DAY:
            validity.spans[-1] = (first, asks)
            acts.append((asks, go("reapply")))
            renewed = world.hour(working(asks.date(), 10))
            if renewed.date() <= date(2026, 12, 20) and (held_from is None or asks > held_from):
                acts.append((renewed, go("renew")))
        elif chance.random() < 0.8:
            changed_on = world.hour(forth(NEW_YEAR + (70 + chance.randrange(60)) * DAY))
            if first < changed_on and changed_on + 50 * DAY < ends:
                acts.append((changed_on, altered))
                due = forth(changed_on.date() + 30 * DAY)
                done = world.hour(working(changed_on.date(), chance.choice((3, 10, 18))))
                thing = (name, "重大变动报备", str(changed_on.date()))
                world.need(
                    "change (DL-09)", thing, whom, "duty", due, changed_on.date(), [(changed_on, done)]
                )
                acts.append((done, told("F16", "2026", changes=({"change": "机构"},))))
    yield from sorted(acts, key=lambda one: one[0])


def applicant(world: World, name: str, district: str) -> Life:
    """A new cluster: perhaps returned, then before the public, perhaps with an objection."""
    chance, filer = world.chance, department(world, district)
    day = forth(date(2026, 3, 2) + chance.randrange(150) * DAY)
    yield (at := world.hour(day)), begin(world, CLUSTERS, "F15", filer, district, name)
    yield (at := world.hour(day := working(day, 2))), go("recommend")
    if chance.random() < 0.4:
        yield (at := world.hour(day := working(day, 3))), go("return")
        again = world.hour(working(day, chance.choice((2, 5, 8))))
        world.need("returned case", (name, "补正"), [filer.code], "term", working(day, 5), day, [(at, again)])
        day = again.date()
        yield again, go("resubmit")
    shown = world.hour(day := working(day, 10))
    yield shown, go("accept", "conclude", "propose")
    due = working(day, 7)
    ends = midnight(due + DAY)
    need = world.need("public notice (DL-05)", (name, "公示"), [CITY], "ending", due, day, [(shown, ends)])
    if chance.random() < 0.4:
        objected = world.hour(working(day, chance.choice((2, 5, 6))))
        need.spans = [(shown, objected)]
        yield objected, go("object")
        settled = world.hour(working(objected.date(), chance.choice((1, 3, 9))))
        yield settled, go("dismiss")
        if settled < ends:
            need.spans.append((settled, ends))
        ends = max(ends, settled)
    yield world.hour(working(ends.date(), 2)), go("publish")


def station(world: World, name: str, district: str) -> Life:
    """From its application to the compact and to what a station owes every quarter and every year."""
    chance = world.chance
    filer = Party(code=f"k6-{name}", kind="K6", name=f"运营单位{name}", email=f"{name}@s.example")
    day = forth(date(2026, 2, 24) + chance.randrange(80) * DAY)
    yield world.hour(day), begin(world, STATIONS, "F12", filer, district, name)
    yield (at := world.hour(day := working(day, 2))), go("accept")
    # Until the printed date: that is recalled by itself; who has let it pass is told for each case.
    passed = date(2026, 6, 21)
    slow = chance.random() < 0.2
    until = world.hour(working(passed, 6) if slow else working(day, 3))
    world.need(
        "undecided (after DL-12)", (name, "初审与推荐上报"), [district], "overdue", passed, day, [(at, until)]
    )
    yield until, go("recommend")
    day = until.date()
    signed_from = world.hour(day := working(day, 12))
    yield signed_from, go("collate", "conclude", "approve", "publish")
    due = forth(day + 30 * DAY)
    signed = world.hour(working(day, chance.choice((2, 8, 15, 20, 21, 25))))
    world.need(
        "compact (DL-16)", (name, "签署公约"), [filer.code], "compact", due, day, [(signed_from, signed)]
    )
    yield signed, go("sign")
    acts = [*_owes(world, name, filer, signed)]
    if chance.random() < 0.2:
        # Somebody proposes that it leaves: it is heard, or lets that pass; then it is kept.
        asked = world.hour(day := working(signed.date(), 5))
        due = working(day, 10)
        says_so = chance.choice((True, False))
        until = world.hour(working(day, chance.choice((2, 7, 10)))) if says_so else midnight(due + DAY)
        world.need("hearing", (name, "听取意见"), [filer.code], "ending", due, day, [(asked, until)])
        acts += [(asked, go("propose_exit")), *([(until, go("state"))] if says_so else [])]
        acts.append((world.hour(working(until.date(), 3)), go("keep")))
    yield from sorted(acts, key=lambda one: one[0])


def _owes(world: World, name: str, filer: Party, signed: datetime) -> Life:
    chance, since = world.chance, signed.date()

    def duty(
        occasion: str, thing: str, period: str, form: str, due: date, began: date, to: list[str]
    ) -> tuple[datetime, Life]:
        """Reported some days before its day, on it, or never."""
        ahead = chance.choice((0, 0, 2, 9, 20, None))
        opened = max(signed, midnight(began))
        at = None
        if ahead is not None:
            near = datetime.combine(
                owed_year.back(due - ahead * DAY), datetime.min.time().replace(hour=15), SHANGHAI
            )
            at = near if near > opened + DAY else None
        until = at or midnight(due + DAY)
        world.need(occasion, (name, thing, period), to, "duty", due, began, [(opened, until)])
        acts: list[tuple[datetime, Act]] = []
        if at:
            acts.append((at, told(form, period)))
        else:
            world.need(
                "missed",
                (name, "missed", thing, period),
                [filer.code],
                "missed",
                due,
                began,
                [(until, NEVER)],
            )
        return until, iter(acts)

    _, acts = duty(
        "rules on record (DL-62)",
        "工作制度报服务总站备案",
        "",
        "F12-4",
        forth(since + 30 * DAY),
        since,
        [filer.code],
    )
    yield from acts
    _, acts = duty(
        "annual summary (DL-14)",
        "年度服务工作总结和下一年度计划",
        "2026",
        "F12-2",
        date(2026, 12, 31),
        since,
        [filer.code, HEAD],
    )
    yield from acts
    began = since
    for quarter, last in (
        (1, date(2026, 3, 31)),
        (2, date(2026, 6, 30)),
        (3, date(2026, 9, 30)),
        (4, date(2026, 12, 31)),
    ):
        if last >= since:
            thing = "定期报送区域行业、企业和需求信息"
            until, acts = duty(
                "periodic report (DL-15)", thing, f"2026-{quarter}", "F12-3", last, began, [filer.code]
            )
            yield from acts
            began = until.date()


# --- printed dates -----------------------------------------------------------------------------------


def printed(world: World) -> None:
    """Of each agency whose kind is reminded: until it has done what spares it."""
    kinds = {kind: world.directory.of_kind(kind) for kind in ("K1", "K2", "K3", "K4", "K5", "K6", "city")}

    def each(
        id_: str, occasion: str, notice: str, ladder: str, due: date, of: Sequence[str], **more: Any
    ) -> None:
        deadline = world.known[notice].notice.by_deadline[id_]
        district, last = more.get("district"), more.get("last")
        for agency in (a for kind in of for a in kinds[kind]):
            if district not in (None, agency.district):
                continue
            since = (
                world.done.get((notice, agency.code, more.get("only", "")), NEVER)
                if "only" in more
                else midnight(NEW_YEAR)
            )
            until = (
                world.done.get((notice, agency.code, more.get("unless", "")), NEVER)
                if "unless" in more
                else NEVER
            )
            thing = ("printed", world.known[notice].notice.title, deadline.name)
            spans = [(since, until)] if since < until else []
            world.need(occasion, thing, [agency.code], ladder, due, date(2025, 1, 1), spans, last=last)

    each("DL-01", "round (DL-01)", ROUND, "filing", date(2026, 3, 7), ["K2"], unless="filed")
    each(
        "DL-02",
        "June activity (DL-02)",
        ROUND,
        "june",
        date(2026, 6, 1),
        ["K2"],
        unless="june_activities",
        last=date(2026, 6, 30),
    )
    each(
        "DL-03",
        "service month (DL-03)",
        ROUND,
        "month",
        date(2026, 6, 1),
        ["K1", "K2", "K3", "K4", "K5", "K6"],
        only="service_month",
    )
    each("DL-10", "guide expires (DL-10)", CLUSTERS, "expiry", date(2026, 12, 29), ["city"])
    each(
        "DL-11",
        "district date (DL-11)",
        STATIONS,
        "district",
        date(2026, 6, 18),
        ["K3", "K4", "K5", "K6"],
        district="440106",
    )
    each("DL-12", "districts recommend (DL-12)", STATIONS, "district", date(2026, 6, 21), ["K2"])
    each("DL-13", "targets (DL-13)", STATIONS, "targets", date(2026, 12, 31), ["city"])


# --- the year ----------------------------------------------------------------------------------------

ENTERED = """
create schema year;
create table year.entered (n bigserial, letter text, to_code text, "case" uuid, params jsonb);
create function year.enter() returns trigger language plpgsql as $$ begin
  insert into year.entered (letter, to_code, "case", params) values (new.letter, new.to_code, new."case", new.params);
  return new; end $$;
create trigger entered after insert on notify.mail for each row
  when (new.letter in ('deadline', 'june_activity', 'expiring', 'duty_due', 'duty_missed')) execute function year.enter();
"""


@dataclass
class Told:
    restarts: int = 0
    died: int = 0
    outages: int = 0
    cases: int = 0
    events: int = 0
    turns: int = 0
    letters: int = 0
    seconds: float = 0


@dataclass
class Year:
    """The service over a year. `careless` is the calendar that it counts by, when not the true one."""

    url: str
    world: World
    careless: Calendar | None = None
    told: Told = field(default_factory=Told)
    entered: list[tuple[Subject, datetime]] = field(default_factory=list)
    turns: list[datetime] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clock = Hand()
        self.cases: dict[str, Case] = {}
        self.names: dict[UUID, str] = {}
        self.waiting: list[Raw] = []
        self.seq = self.last = 0

    async def start(self) -> None:
        """A new process: nothing is remembered but what the database has."""
        self.engine = Mortal(connect(self.url, "notify"))
        self.notify = Notify(
            self.world.known,
            self.world.directory,
            People(self.world.directory),
            self.careless or self.world.calendar,
        )
        handlers = {"evt": (HEARD, self.notify.on_evt)}
        self.delivery = Delivery("notify", cast(Database, self.engine), cast(Any, None), self.clock, handlers)
        self.context = cast(
            Any, SimpleNamespace(engine=self.engine, clock=self.clock, delivery=self.delivery)
        )

    async def again(self) -> None:
        await self.engine.dispose()
        await self.start()

    async def run(self, lives: dict[str, list[tuple[datetime, Act]]], until: date = END) -> None:
        began, chance = wall.monotonic(), self.world.chance
        await self.start()
        heap: list[tuple[datetime, int, str, Act | None]] = []
        n = 0
        for name, acts in lives.items():
            self.names[uuid5(SPACE, name)] = name
            for at, act in acts:
                n += 1
                heapq.heappush(heap, (at, n, name, act))
        for i in range((until - NEW_YEAR).days):
            for minutes in (8 * 60 + 59, 9 * 60, *((12 * 60,) if i % 3 == 0 else ())):
                n += 1
                heapq.heappush(heap, (midnight(NEW_YEAR + i * DAY) + timedelta(minutes=minutes), n, "", None))
        outages = self._outages(until)
        while heap and heap[0][0] < midnight(until):
            now = heap[0][0]
            self.clock.moment = self.world.now = now
            while heap and heap[0][0] == now:
                _, _, name, one = heapq.heappop(heap)
                if name and (wakes := self._happens(name, one)):
                    n += 1
                    heapq.heappush(heap, (max(wakes, now), n, name, None))
            if any(a <= now < b for a, b in outages):
                continue
            if chance.random() < 0.02:
                self.told.restarts += 1
                await self.again()
            await self._turn(now)
        await self.engine.dispose()
        self.told.seconds = wall.monotonic() - began
        self.told.outages, self.told.turns, self.told.cases = len(outages), len(self.turns), len(self.cases)

    def _outages(self, until: date) -> list[tuple[datetime, datetime]]:
        days, found = (until - NEW_YEAR).days, []
        for _ in range(max(1, days // 40)):
            first = midnight(NEW_YEAR) + timedelta(hours=self.world.chance.randrange(24, days * 24))
            found.append((first, first + timedelta(hours=self.world.chance.choice((3, 12, 30, 100)))))
        return found

    def _happens(self, name: str, act: Act | None) -> datetime | None:
        """What the clock does with a case by now, then the act; returns when the clock must look again."""
        case, notice = self.cases.get(name), None
        steps: list[Step] = []
        if case is not None:
            notice = self.world.known[case.notice].notice
            steps += elapse(notice, case, self.world.now, self.world.calendar)
            case = steps[-1].case if steps else case
        if act is not None:
            steps += act(self.world, cast(Case, case))
            case = steps[-1].case
        for step in steps:
            type_ = SAYS[step.says]
            told = type_.payload.model_validate(changed(step).model_dump())
            _, body = type_.wire(told, step.case.case, step.case.version, at=step.at)
            self.seq += 1
            self.waiting.append(
                Raw(type_.subject(step.case.district), body, None, "SME_EVT", self.seq, step.at)
            )
        if case is None:
            return None
        self.cases[name] = case
        wakes = [w for w in (case.wakes, *(o.wakes for o in case.owed)) if w]
        return min(wakes, default=None) if steps or act else None

    async def _turn(self, now: datetime) -> None:
        """Events first, then the sweep; it may die anywhere, and then somebody else begins again."""
        chance = self.world.chance
        batch, self.waiting = self.waiting, []
        self.told.events += len(batch)
        parts = [batch[first : first + 200] for first in range(0, len(batch), 200)]
        for some in (*parts, None):

            async def part(some: list[Raw] | None = some) -> None:
                if some is None:
                    await self.notify.remind(self.context)
                else:
                    await self.delivery.commit("evt", some)

            if chance.random() < 0.03:
                self.engine.dies = (chance.choice((1, 1, 2)), chance.random() < 0.5)
            try:
                await part()
            except Died:
                self.told.died += 1
                await self.again()
                await part()
            self.engine.dies = None
        self.turns.append(now)
        async with self.engine.connect() as conn:
            rows = await conn.read("select * from year.entered where n > :n order by n", {"n": self.last})
        for row in rows:
            self.last = row.n
            self.entered.append((self._subject(row), now))
        self.told.letters += len(rows)

    def _subject(self, row: Any) -> Subject:
        params, day = row.params, row.params["due"]["date"]
        if row.case is None:
            return ("printed", params["notice"], params["name"], day, row.to_code)
        name = self.names[row.case]
        if row.letter == "duty_due":
            return (name, params["duty"], params["period"], day, row.to_code)
        if row.letter == "duty_missed":
            return (name, "missed", params["duty"], params["period"], day, row.to_code)
        return (name, params["stage"], day, row.to_code)


def lives(world: World, cases: int) -> dict[str, list[tuple[datetime, Act]]]:
    """Half of them items of the round, the others titles and those that want to be; over all districts in turn."""
    districts = sorted(a.district for a in world.directory.of_kind("K2") if a.district)
    kinds = (item, station, item, cluster, item, station, item, cluster, applicant)
    made = {}
    for n in range(cases):
        kind = kinds[n % len(kinds)]
        name = f"{kind.__name__}{n}"
        made[name] = list(kind(world, name, districts[n % len(districts)]))
    return made


async def year(
    postgres: Postgres,
    cases: int,
    *,
    seed: int = 2026,
    until: date = END,
    careless: Calendar | None = None,
    name: str = "year",
) -> tuple[Comparison, Told]:
    postgres.sql(f"create database {name}")
    url = postgres.dsn(name)
    await migrate(url, ("notify",))
    postgres.sql(ENTERED, name)
    world = World(notices(), directory(), Calendar.load(), random.Random(seed))
    made = lives(world, cases)
    run = Year(url, world, careless)
    await run.run(made, until)
    printed(world)
    return owed_year.compare(world.needs, run.entered, run.turns), run.told


def show(found: Comparison, told: Told) -> None:
    table = Table(title=f"2026: {told.cases} cases, {told.events} events, {told.turns} turns")
    for column in ("occasion", "owed", "sent", "missing", "twice", "early", "never owed", "on rest days"):
        table.add_column(column, justify="left" if column == "occasion" else "right")
    for occasion, one in (*sorted(found.by.items()), ("all", found.total)):
        figures = (one.owed, one.sent, one.missing, one.twice, one.early, one.stray, one.rest)
        table.add_row(occasion, *map(str, figures))
    console = Console(width=130)
    console.print(table)
    console.print(
        f"{told.restarts} restarts, {told.died} deaths in a transaction, {told.outages} outages of hours to days; "
        f"{told.seconds:.0f} s"
    )
    for line in found.examples:
        console.print(line, markup=False)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, Postgres(Path(folder)) as postgres:
        found, told = asyncio.run(year(postgres, int(sys.argv[1]) if len(sys.argv) > 1 else 3000))
    show(found, told)
    raise SystemExit(1 if found.wrong else 0)


if __name__ == "__main__":
    main()
