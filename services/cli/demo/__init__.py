"""`yiqi demo`: the 2025 first-quarter collection from filled-in workbooks to catalogues and mails, in a minute.

What is filed is in `rows.py`, as files in `papers.py`. Everything else here is what the command line and the
services do anyway; only the calendar is turned, so that the round plays on its own days.
"""

import asyncio
import hashlib
import json
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from datetime import time as clock_time
from http import HTTPStatus
from pathlib import Path
from typing import Any

from nats.aio.client import Client
from rich.markup import escape
from sqlalchemy.ext.asyncio import create_async_engine

from services.cli import filing
from services.cli import report as pictures
from services.cli.common import FINDINGS, GOOD, Fail, console
from services.cli.demo import look, papers, rows
from services.cli.demo.lives import STAGES, Lives
from services.cli.demo.look import PATIENCE, Sight
from services.cli.demo.rows import NOTICE, Event, Package
from services.cli.local import Local
from services.export.table import file_name
from shared.contracts import registry
from shared.contracts.case import DecisionMade, Fix
from shared.contracts.catalogue import CatalogueRequested
from shared.contracts.registry import EventType
from shared.contracts.submission import CatalogueRecorded, EarlierRow, Filer
from shared.notices.calendar import SHANGHAI
from shared.notices.directory import Agency, Directory
from shared.notices.load import CompiledNotice, load_all
from shared.notices.values import chinese_date
from shared.runtime import SERVICES
from shared.runtime.accounts import OPERATOR
from shared.runtime.database import async_url
from shared.runtime.embedded import eventually
from shared.runtime.streams import IN

CITY = "440100"
KEPT = ("catalogues", "mail", "marked", "filed", "pictures", "sealed")
SPOKEN = 2
"""Findings of one filing that are read out; the marked workbook has them all."""

Case = Mapping[str, Any]
Started = Callable[[Local], None]


def run(
    out: Path, keep_data: bool = False, started: Started | None = None, place: type[Local] = Local
) -> int:
    """Play the round, keep its papers in `out`, return 0 if all went as it must.

    `started` is told what runs, so that a test can pull the plug on parts of it; `place` is where that is.
    """
    out = out.resolve()
    for name in (*KEPT, "run"):
        shutil.rmtree(out / name, ignore_errors=True)
    (out / "report.json").unlink(missing_ok=True)
    for name in KEPT:
        (out / name).mkdir(parents=True)
    begun = time.monotonic()
    directory = _directory(out / "agencies.yaml")
    local = place(
        out / "run",
        extra={
            "YIQI_AGENCIES": str(out / "agencies.yaml"),
            "YIQI_CATALOGUES": str(out / "run" / "catalogues"),
            "YIQI_SMTP_REPLY_TIMEOUT": "20",
        },
    )
    _print("[bold]益企演示[/bold]：2025年第一季度广州市中小企业服务产品征集（单位以外的内容均为示例）")
    _print("启动 NATS、PostgreSQL、收信的邮件服务器和四个服务……")
    try:
        _turn(local, rows.OPENED)
        local.start(timeout=120)
        threading.Thread(target=local.supervise, name="supervisor", daemon=True).start()
        if started:
            started(local)
        report = asyncio.run(Story(out, local, directory).play())
    finally:
        local.stop()
    report["seconds"] = round(time.monotonic() - begun, 1)
    (out / "report.json").write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n")
    if not keep_data:
        shutil.rmtree(out / "run", ignore_errors=True)
    _tell(report, out)
    return FINDINGS if report["wrong"] else GOOD


def _directory(path: Path) -> Directory:
    """The agencies of the notice and the example ones, each with an address that cannot exist (RFC 2606)."""
    known = Directory.load().agencies
    entries = [a.model_dump(mode="json", exclude_defaults=True) for a in known]
    entries += [{**a, "source": "示例"} for a in rows.AGENCIES]
    for entry in entries:
        entry["email"] = f"{entry['code']}@yiqi-demo.test"
    # JSON is YAML, and a mounted entry replaces the packaged one: no real mailbox is left.
    path.write_text(json.dumps(entries, ensure_ascii=False, indent=1))
    return Directory.load(path)


def _turn(local: Local, day: date, hour: int = 10, minute: int = 0) -> None:
    """Set the clock that all services share; whole or not at all, as they read it at any moment."""
    offset = datetime.combine(day, clock_time(hour, minute), SHANGHAI) - datetime.now(UTC)
    part = local.clock.with_suffix(".part")
    part.write_text(str(offset.total_seconds()))
    part.replace(local.clock)


@dataclass
class Story:
    out: Path
    local: Local
    directory: Directory
    notice: CompiledNotice = field(default_factory=lambda: load_all()[NOTICE])
    wrong: list[str] = field(default_factory=list)
    filed: int = 0
    taken: int = 0
    filings: int = 0
    broken: Counter[tuple[str, str]] = field(default_factory=Counter)
    clients: dict[str, Client] = field(default_factory=dict)
    """By the seed that they are connected with."""
    connecting: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def play(self) -> dict[str, Any]:
        """From the day of the notice to the day of publication."""
        engine = create_async_engine(async_url(self.local.postgres.dsn("yiqi")), hide_parameters=True)
        operator = await self.client(OPERATOR)
        self.sight = Sight(engine, operator.jetstream(timeout=10), self.local.clock)
        try:
            await self.open()
            await self.collect()
            await self.check()
            await self.correct()
            await self.select()
            await self.publish()
            await self.draw()
            lives = await Lives(self).play()
            await self.seal()
            return await self.report(lives)
        finally:
            for client in self.clients.values():
                await client.close()
            await engine.dispose()

    async def client(self, who: str) -> Client:
        """Everybody speaks with a seed of their own; for applicants that are not listed, the desk does."""
        seed = str(self.local.seed(who))
        async with self.connecting:
            if seed not in self.clients:
                self.clients[seed] = await self.local.connect(who)
        return self.clients[seed]

    @staticmethod
    def print(line: str) -> None:
        _print(line)

    # --- the days ---

    async def open(self) -> None:
        await self.day(rows.OPENED, "通知印发")
        data = CatalogueRecorded(
            form="F5",
            title="广州市2024年第四季度“一起益企”金融服务产品汇总表",
            published_on=date(2024, 12, 20),
            rows=tuple(EarlierRow(unit=u, name=n, serial=i) for i, (u, n) in enumerate(rows.EARLIER, 1)),
        )
        self.hold(await self.say(CITY, registry.CATALOGUE_RECORDED, data, "2024q4"), True, "登记以往目录")
        _print(f"  市局登记《{data.title}》{len(data.rows)}款：其中的产品不得重复报送")
        await self.day(date(2025, 2, 28), "还有7天")

    async def collect(self) -> None:
        """Workbooks and events as they come in; districts that are silent are reminded on the way."""
        titles = {4: "还有3天", 6: "还有1天", 7: "报送截止", 10: "逾期"}
        last = date(2025, 2, 28)
        for one in rows.FILED:
            if one.day != last:
                await self.leave(last)
                last = one.day
                await self.day(last, titles.get(last.day, "报送"))
            await (self.package(one) if isinstance(one, Package) else self.event(one))
        await self.leave(last)

    async def leave(self, day: date) -> None:
        """What is still to be done on a day before the next one begins."""
        if day == date(2025, 3, 5):
            await self.nonsense()
        if day == date(2025, 3, 6):
            await self.recommend()

    async def recommend(self) -> None:
        waiting = await self.cases("recommendation")
        not_ = [c for c in waiting if c["title"] == rows.NOT_RECOMMENDED]
        _print(f"  [bold]推荐审核[/bold] 天河区收到{len(waiting)}项，推荐{len(waiting) - len(not_)}项")
        await self.decide(
            [c for c in waiting if c not in not_],
            "recommend",
            "课程与本区企业需求相符，同意推荐",
            actor="440106",
        )
        await self.decide(
            not_, "reject", "与已推荐课程内容重复，不予推荐", actor="440106", rules=("R-COL-015",)
        )

    async def check(self) -> None:
        await self.day(date(2025, 3, 11), "形式审查")
        waiting = {c["title"]: c for c in await self.cases("formal_check")}
        returned = waiting.pop(rows.RETURNED)
        await self.decide(
            [returned],
            "return",
            "内容过长，不便印入目录",
            rules=("F8.07",),
            fixes=(Fix(field="content", detail="请压缩到2000字以内，写明步骤和交付物"),),
        )
        _print(f"  退回补正：{returned['number']} {rows.RETURNED}（内容超过2000字），5个工作日内补正")
        await self.decide(
            [waiting.pop(rows.FALSE_PROMISE)],
            "reject",
            "缴费保证获批，属虚假宣传、违规收费",
            rules=("R-COL-009",),
        )
        await self.decide(
            [waiting.pop(rows.OVER_QUOTA)],
            "reject",
            "平台的服务产品以1款为限，不放宽",
            rules=("R-COL-011",),
        )
        _print("  不予受理：一项保证获批的收费代办（R-COL-009），一款超出限额的设备（R-COL-011）")
        withdrawn = waiting.pop(rows.WITHDRAWN)
        await self.decide([withdrawn], "withdraw", "产品调整，下季度再报", actor=withdrawn["filer"]["code"])
        _print(f"  填报单位撤回：{rows.WITHDRAWN}")
        waived = waiting.pop(rows.WAIVED)
        await self.decide(
            [waived], "accept", "特别优秀，同意放宽每个方向2个的限制", rules=("R-COL-013",), acknowledge=True
        )
        _print(f"  放宽数量限制：{waived['number']} {rows.WAIVED}（确认 R-COL-010，依据 R-COL-013）")
        late = [c for c in waiting.values() if c["late"]]
        await self.decide(
            late, "accept", "逾期一个工作日，材料齐全，同意受理", rules=("R-COL-019",), acknowledge=True
        )
        _print(f"  逾期受理：{late[0]['filer']['name']}{len(late)}项（确认 R-COL-019）")
        rest = [c for c in waiting.values() if not c["late"]]
        await self.decide(rest, "accept", "材料齐全，填写规范，通过形式审查", acknowledge=True)
        noted = [c for c in rest if _soft(c)]
        _print(f"  通过形式审查：{len(rest)}项，其中{len(noted)}项经确认提示后通过")

    async def correct(self) -> None:
        await self.day(date(2025, 3, 14), "补正")
        sql = "select 1 from notify.mail where key like 'case/%/term/correction/%/3/%'"
        await eventually(lambda: self.sight.query(sql), PATIENCE, "the reminder of the correction")
        _print("  补正期限还有几天：给填报单位发出提醒")
        (before,) = await self.cases("correction")
        await self.package(rows.CORRECTION)
        await self.sight.settled()
        (after,) = await self.cases("formal_check")
        if (after["number"], after["version"] > before["version"]) != (before["number"], True):
            self.wrong.append("补正后编号变了")
        _print(f"  补正后编号不变：{after['number']}，第{after['revision']}次报送")
        await self.decide([after], "accept", "已按要求压缩，通过形式审查", acknowledge=True)

    async def select(self) -> None:
        await self.day(date(2025, 3, 17), "择优遴选")
        waiting = await self.cases("selection")
        declined = [c for c in waiting if c["title"] in rows.DECLINED]
        await asyncio.gather(
            self.decide([c for c in waiting if c not in declined], "select", "符合征集方向，择优入选"),
            *(self.decide([c], "decline", rows.DECLINED[c["title"]], rules=("R-COL-015",)) for c in declined),
        )
        _print(f"  入选{len(waiting) - len(declined)}项，未入选{len(declined)}项，逐项告知理由")

    async def publish(self) -> None:
        await self.day(rows.PUBLISHED, "发布")
        chosen = await self.cases("publication")
        await self.decide(chosen, "publish", "向社会发布", rules=("R-COL-016",))
        await self.sight.settled()
        wanted = CatalogueRequested(notice=NOTICE)
        self.hold(await self.say(CITY, registry.CATALOGUE_REQUESTED, wanted, "2025-03-18"), True, "生成目录")
        await self.sight.settled()
        _print(f"  发布{len(chosen)}项，生成目录，向填报单位发信")

    async def draw(self) -> None:
        """The round in pictures, as `yiqi report all` makes them."""
        notices = [self.notice.notice, *(c.notice for id_, c in load_all().items() if id_ != NOTICE)]
        async with self.sight.engine.connect() as conn:
            figures = await pictures.drawn(conn, pictures.What.ALL, notices, self.directory, rows.PUBLISHED)
        try:
            pictures.write(figures, self.out / "pictures", list(pictures.Format))
        except Fail as missing:  # an installation without the extra
            _print(f"  {missing}")

    async def seal(self) -> None:
        """What leaves the system for good: the round, and all that is held of one case."""
        await self.sight.settled()
        (case,) = await self.sight.query(
            "select number from review.\"case\" where form = 'F12' order by number limit 1"
        )
        folder, number = self.out / "sealed", case["number"]
        for name, what, command in (
            (
                f"{NOTICE}.zip",
                "本轮目录汇集",
                ("catalogue", "collect", "--notice", NOTICE, "--out", str(folder)),
            ),
            (
                f"{number}.zip",
                f"{number} 的案卷",
                ("case", "dossier", number, "--out", str(folder / f"{number}.zip")),
            ),
        ):
            # The last catalogue may just be being made.
            await eventually(lambda c=command: look.done(self.local.environment, c), 60, what)  # type: ignore[misc]
            files, digest = look.sealed(folder / name)
            _print(f"  {what}：{files}个文件，逐一与清单相符，摘要 {digest[:16]}")

    async def day(self, day: date, title: str, hour: int = 10, minute: int = 0) -> None:
        """Let the day before end, turn the calendar, and see the reminders of the new day go out."""
        await self.sight.settled()
        _turn(self.local, day, hour, minute)
        await self.sight.settled()
        weekday = "一二三四五六日"[day.weekday()]
        _print(f"\n[bold cyan]{chinese_date(day)}（星期{weekday}）{title}[/bold cyan]")
        if rung := rows.RUNGS.get(day):
            done = "select unit from notify.fact where notice = :notice and fact = 'filed'"
            filed = {row["unit"] for row in await self.sight.query(done, notice=NOTICE)}
            silent = [a for a in self.directory.of_kind("K2") if a.code not in filed]

            async def reminded() -> bool:
                like = f"deadline/{NOTICE}/DL-01/%/{rung}/%"
                found = await self.sight.query("select 1 from notify.mail where key like :like", like=like)
                return len(found) >= len(silent)

            await eventually(reminded, PATIENCE, f"reminder {rung}")
            names = "、".join(a.short for a in silent) if len(silent) < 6 else f"{len(silent)}个区"
            _print(f"  提醒尚未报送的{names}（征集通知·三，DL-01）")

    # --- filing ---

    async def package(self, package: Package) -> None:
        agency = self.agency(package.who)
        contents = []
        for book in package.books:
            body = await self.paper(book, package)
            self.filings += 1
            (self.out / "filed" / f"{self.filings:02}-{book.name}").write_bytes(body)
            contents.append((book.name, "workbook", body))
        if package.sealed:
            scan = papers.scan(agency.name, chinese_date(package.day))
            contents.append(("盖章扫描件.pdf", "scan", scan))
        answer = await filing.file_package(
            NOTICE,
            self.filer(agency, package.registered),
            contents,
            package.recommender,
            package.all_or_nothing,
            await self.client(agency.code),
            wait=PATIENCE,
        )
        if answer.get("status") == HTTPStatus.INTERNAL_SERVER_ERROR:
            raise RuntimeError(f"{agency.name}: {answer['detail']}")
        (stored,) = await self.sight.query(
            "select rows, accepted, outcome from intake.package where publisher = :who "
            "order by received desc limit 1",
            who=agency.code,
        )
        self.filed += stored["rows"]
        self.taken += stored["accepted"]
        what = f"{agency.name}：{'、'.join(b.name for b in package.books)} {package.note}"
        if (stored["rows"], stored["accepted"]) != (package.rows, package.takes):
            self.wrong.append(f"{what} 应受理{package.takes}/{package.rows}行，实为{stored}")
        self.heard(answer, package.finds, what)
        said = f"  [bold]{agency.name}[/bold] {'、'.join(b.name for b in package.books)}，{stored['rows']}行"
        said += f"（{package.note}）" if package.note else ""
        refused = stored["rows"] - stored["accepted"]
        result = f"受理[green]{stored['accepted']}[/green]行" + (
            f"，[red]退回{refused}行[/red]" if refused else ""
        )
        _print(f"{said}\n    {result}")
        self.read_out(answer)

    async def paper(self, book: papers.Book, package: Package) -> bytes:
        if package.marked is None:
            return await asyncio.to_thread(papers.workbook, book, self.notice)
        await self.sight.settled()
        (kept,) = await self.sight.query(
            "select body from intake.file where role = 'marked' and name = :name", name=book.name
        )
        return papers.corrected(kept["body"], package.marked)

    async def event(self, event: Event) -> None:
        """What another system sends: plain JSON over a plain NATS client, nothing of ours in between."""
        agency = self.agency(event.who)
        self.filings += 1
        document = {
            "specversion": "1.0",
            "id": f"oa-2025-{self.filings:04}",
            "source": f"urn:cn:gov:gz:{agency.code}:oa",
            "type": "cn.gov.gz.sme.submission.filed.v1",
            "time": f"{event.day}T10:00:00+08:00",
            "datacontenttype": "application/json",
            "data": {
                "notice": NOTICE,
                "form": event.form,
                "filer": self.filer(agency).model_dump(exclude_none=True),
                "values": event.values,
                **({"direction": event.direction} if event.direction else {}),
            },
        }
        answer = await self.send(agency.code, document)
        self.filed += 1
        self.taken += event.taken
        name = str(event.values["activity_name"])
        self.hold(answer, event.taken, name)
        self.heard(answer, event.finds, name)
        result = "受理[green]1[/green]行" if event.taken else "[red]退回1行[/red]"
        note = f"（{event.note}）" if event.note else ""
        _print(f"  [bold]{agency.name}[/bold] 总线事件：{name}{note}\n    {result}")
        self.read_out(answer)

    async def nonsense(self) -> None:
        """A message that nobody can read: told to its sender, kept for a person, harmless to all others."""
        answer = await self.send(
            "gsl",
            {
                "specversion": "1.0",
                "id": "oa-2025-9999",
                "source": "urn:cn:gov:gz:gsl:oa",
                "type": "cn.gov.gz.sme.submission.filed.v1",
                "time": "2025-03-05T10:00:00+08:00",
                "data": {"notice": NOTICE, "form": "F3"},
            },
        )
        self.hold(answer, False, "缺字段的事件")
        _print(
            "  [bold]市工商联[/bold] 总线事件：缺少 filer 和 values\n    [red]不符合接口契约[/red]，留待人工处理，不影响其他报送"
        )

    async def send(self, publisher: str, document: Mapping[str, Any]) -> dict[str, Any]:
        client = await self.client(publisher)
        feedback = await client.subscribe(f"sme.out.v1.{publisher}.event.*")
        try:
            await client.jetstream(timeout=10).publish(
                f"sme.in.v1.{publisher}.submission.filed",
                json.dumps(document, ensure_ascii=False).encode(),
                stream=IN,
                headers={"Nats-Msg-Id": str(document["id"])},
            )
            async with asyncio.timeout(PATIENCE):
                async for message in feedback.messages:
                    answer: dict[str, Any] = json.loads(message.data)["data"]
                    if document["id"] in (answer.get("accepted"), (answer.get("rejected") or {}).get("id")):
                        return answer
        finally:
            await feedback.unsubscribe()
        raise AssertionError("the feedback ended")

    # --- deciding ---

    async def cases(self, stage: str) -> Sequence[Case]:
        await self.sight.settled()
        return await self.sight.query(
            'select * from review."case" where notice = :notice and stage = :stage order by filed, number',
            notice=NOTICE,
            stage=stage,
        )

    async def decide(
        self,
        cases: Iterable[Case],
        outcome: str,
        reason: str,
        *,
        actor: str = CITY,
        rules: Sequence[str] = (),
        fixes: tuple[Fix, ...] = (),
        acknowledge: bool = False,
    ) -> None:
        """All at once: the bus keeps them apart."""

        async def one(case: Case) -> None:
            decision = DecisionMade(
                case=case["case"],
                outcome=outcome,
                reason=reason,
                rules=tuple(rules),
                acknowledges=_soft(case) if acknowledge else (),
                fixes=fixes,
                version=case["version"],
                officer="demo",
            )
            cause = (case["case"], case["version"], outcome)
            answer = await self.say(actor, registry.DECISION_MADE, decision, *cause)
            self.hold(answer, True, f"{case['number']} {outcome}")

        await asyncio.gather(*map(one, cases))

    # --- asking and listening ---

    async def say(self, publisher: str, type_: EventType, data: Any, *cause: object) -> dict[str, Any]:
        client = await self.client(publisher)
        return await filing.publish(client, publisher, type_, data, *cause, wait=PATIENCE)

    def agency(self, who: str) -> Agency:
        return self.directory.resolve(who)

    def filer(self, agency: Agency, registered: bool | None = None) -> Filer:
        address = agency.email or f"{agency.code}@yiqi-demo.test"
        return Filer(
            code=agency.code, kind=agency.kind, name=agency.name, email=address, miit_registered=registered
        )

    def hold(self, answer: Mapping[str, Any], good: bool, what: str) -> None:
        if ("rejected" not in answer) is not good:
            self.wrong.append(f"{what}：{answer.get('title', '未被拒绝')} {answer.get('detail', '')}")

    def heard(self, answer: Mapping[str, Any], wanted: Mapping[str, int], what: str) -> None:
        """Count the findings, and compare those that matter with what was planted."""
        errors = answer.get("errors") or ()
        self.broken.update((f["rule"], f["severity"]) for f in errors)
        found = Counter(f["rule"] for f in errors if f["severity"] != "info")
        if found != Counter(wanted):
            self.wrong.append(f"{what} 应发现{dict(wanted)}，实为{dict(found)}")

    def read_out(self, answer: Mapping[str, Any]) -> None:
        spoken: set[str] = set()
        for finding in answer.get("errors") or ():
            if finding["severity"] == "info" or finding["rule"] in spoken or len(spoken) == SPOKEN:
                continue
            spoken.add(finding["rule"])
            colour = "red" if finding["severity"] == "hard" else "yellow"
            place = f"{finding['cell']} " if finding.get("cell") else ""
            source = "，".join(dict.fromkeys([finding["rule"], finding["clause"]]))
            _print(f"    [{colour}]•[/{colour}] {escape(place + finding['detail'][:150])}（{source}）")

    # --- the end ---

    async def report(self, lives: Mapping[str, Any]) -> dict[str, Any]:
        """What was done, in figures; and everything that is not as it must be."""
        query = self.sight.query
        cases = await query(
            'select c.*, p."values" as contacts from review."case" c left join review.contact p '
            'using ("case", revision) where c.notice = :notice order by c.number',
            notice=NOTICE,
        )
        mails = await query(
            'select cast(id as text) as id, letter, to_code, cast("case" as text) as "case", state, why '
            "from notify.mail order by key"
        )
        dead = [
            {"service": s, **row}
            for s in SERVICES
            for row in await query(f"select subject, code, why from {s}.dead where state = 'dead' order by n")
        ]
        marked = await query("select name, body from intake.file where role = 'marked' order by at, sha256")
        for n, file in enumerate(marked, 1):
            (self.out / "marked" / f"{n:02}-{file['name']}").write_bytes(file["body"])
        for path in self.local.mails.messages():
            shutil.copy(path, self.out / "mail" / path.name)
        delivered = look.mails(self.out / "mail")
        report = {
            "notice": NOTICE,
            "rows": {"filed": self.filed, "accepted": self.taken, "refused": self.filed - self.taken},
            "findings": [
                {"rule": rule, "severity": severity, "count": n}
                for (rule, severity), n in sorted(self.broken.items())
            ],
            "forms": sorted({c["form"] for c in cases}),
            "kinds": sorted({c["filer"]["kind"] for c in cases}),
            "districts": sorted({c["district"] for c in cases} - {CITY}),
            "lives": lives,
            "cases": dict(sorted(Counter(c["stage"] for c in cases).items())),
            "letters": _counted(mails),
            "sent_twice": look.twice([id_ for id_, _ in delivered]),
            "dead": dead,
            "restarts": self.local.restarts,
            "catalogues": await self.catalogues(cases),
            "mails": [{**m, "id": f"<m-{m['id']}@yiqi.test>"} for m in mails],
            "delivered": sorted(id_ for id_, _ in delivered),
        }
        self.wrong += faults(report)
        return {**report, "wrong": self.wrong}

    async def catalogues(self, cases: Sequence[Case]) -> list[dict[str, Any]]:
        """Every catalogue beside what review holds as published: the same rows, the announced bytes."""
        made = []
        asked = f"select * from export.catalogue where notice = '{NOTICE}' and not public order by form"
        for row in await self.sight.query(asked):
            form = self.notice.notice.by_form[row["form"]]
            path = self.out / "run" / "catalogues" / NOTICE / file_name(self.notice.notice, form)
            path = Path(shutil.copy(path, self.out / "catalogues" / path.name))
            printed = look.catalogue_rows(path, form)
            wanted = [
                look.published_row(form, {**c["values"], **(c["contacts"] or {})})
                for c in cases
                if c["form"] == form.id and c["stage"] == "published"
            ]
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            if digest != row["sha256"]:
                self.wrong.append(f"{path.name} 与公布的摘要不符")
            if sorted(r[1:] for r in printed) != sorted(wanted):
                self.wrong.append(f"{path.name} 与已发布的项目不符")
            if [r[0] for r in printed] != [str(n) for n in range(1, len(wanted) + 1)]:
                self.wrong.append(f"{path.name} 的序号不连续")
            made.append(
                {
                    "form": form.id,
                    "file": path.name,
                    "rows": len(printed),
                    "sha256": digest,
                    "size": row["size"],
                }
            )
        return made


def _soft(case: Case) -> tuple[str, ...]:
    return tuple(sorted({f["rule"] for f in case["findings"] if f["severity"] == "soft"}))


def _counted(mails: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    counted: dict[str, dict[str, int]] = {}
    for (letter, state), n in sorted(Counter((m["letter"], m["state"]) for m in mails).items()):
        counted.setdefault(letter, {})[state] = n
    return counted


def faults(report: Mapping[str, Any]) -> list[str]:
    """What a report shows that must not be, whatever happened to the services meanwhile."""
    wrong = []
    if report["cases"] != dict(sorted(rows.STAGES.items())):
        wrong.append(f"项目应办结为{rows.STAGES}，实为{report['cases']}")
    forms = {c["form"]: c["rows"] for c in report["catalogues"]}
    if sum(forms.values()) != rows.STAGES["published"]:
        wrong.append(f"目录共{sum(forms.values())}行，应为{rows.STAGES['published']}行")
    if report["lives"] != STAGES:
        wrong.append(f"集群和服务站应为{STAGES}，实为{report['lives']}")
    if report["sent_twice"]:
        wrong.append(f"重复送达的邮件：{report['sent_twice']}")
    known = {m["id"]: m["state"] for m in report["mails"]}
    delivered = set(report["delivered"])
    if strange := delivered - set(known):
        wrong.append(f"账上没有的邮件：{sorted(strange)}")
    if lost := {id_ for id_, state in known.items() if state == "sent"} - delivered:
        wrong.append(f"账上已发出而未送达的邮件：{sorted(lost)}")
    states = Counter(known.values())
    # A worker that died after DATA leaves a mail of which nobody can say whether it was taken.
    allowed = {"sent", "unknown"} if report["restarts"] else {"sent"}
    if set(states) - allowed:
        wrong.append(f"没有发出的邮件：{dict(states)}")
    if [(d["service"], d["code"]) for d in report["dead"]] != [("intake", "schema")]:
        wrong.append(f"无法处理的消息应只有1条，实为{report['dead']}")
    return wrong


def _tell(report: Mapping[str, Any], out: Path) -> None:
    """The figures, and how to go on."""
    _print("\n[bold cyan]结果[/bold cyan]")
    counts = report["rows"]
    _print(
        f"  报送{counts['filed']}行，受理{counts['accepted']}行，退回{counts['refused']}行；"
        f"附件{len(report['forms'])}种，单位类别{len(report['kinds'])}类，涉及{len(report['districts'])}个区"
    )
    hard = sum(f["count"] for f in report["findings"] if f["severity"] == "hard")
    soft = sum(f["count"] for f in report["findings"] if f["severity"] == "soft")
    _print(f"  发现必须修改的问题{hard}处、须确认的{soft}处：" + "、".join(
        f"{f['rule']}×{f['count']}" for f in report["findings"] if f["severity"] != "info"
    ))  # fmt: skip
    notice = load_all()[NOTICE].notice
    stages = (f"{notice.procedure.by_id[stage].name}{n}" for stage, n in report["cases"].items())
    _print("  项目：" + "，".join(stages))
    states = Counter(m["state"] for m in report["mails"])
    letters = "、".join(f"{letter} {sum(by.values())}" for letter, by in report["letters"].items())
    _print(f"  邮件{len(report['mails'])}封（{letters}）")
    unknown = f"，不能确定的{states['unknown']}" if states["unknown"] else ""
    _print(
        f"  送达{len(report['delivered'])}，重复送达[bold]{len(report['sent_twice'])}[/bold]{unknown}；"
        f"无法处理的消息{len(report['dead'])}条（有意放入1条）；服务重启{report['restarts']}次"
    )
    for made in report["catalogues"]:
        _print(f"  目录 {made['sha256'][:16]} {made['rows']:>3}行 {made['file']}")
    for line in report["wrong"]:
        _print(f"  [red]不符[/red] {escape(line)}")
    verdict = "[red]有不符之处[/red]" if report["wrong"] else "[green]全部相符[/green]"
    _print(f"  {verdict}，用时{report['seconds']}秒")
    _print(
        f"\n结果在 {out}（catalogues 目录，mail 邮件，marked 标注后退回的表，filed 报送的表，pictures 进度、各区覆盖和期限的图，sealed 汇集和案卷，report.json）。"
        f"接着试试：yiqi up 一直运行；yiqi check {out / 'filed'}/01-附件3-越秀区.xlsx --notice {NOTICE} --as 440104"
    )


def _print(line: str) -> None:
    """Chinese has no blanks to break at; the terminal wraps it better than anybody who looks for some."""
    console.print(line, soft_wrap=True)
