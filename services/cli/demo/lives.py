"""Two lives that last years, told in seconds: an industry cluster from the district's pool to its revocation, and a
service station from its application to its exit.

Firms, figures and events are made up. What happens is what the notices say; here it is only set going.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from rich.markup import escape

from services.cli.demo import papers
from services.cli.demo.look import PATIENCE
from services.notify.reminders import concerns, due_now, rungs
from shared.contracts import registry
from shared.contracts.case import DecisionMade, Expert, FactReported, ScoreGiven
from shared.contracts.submission import SubmissionFiled
from shared.contracts.types import FileRef
from shared.notices.calendar import SHANGHAI, Calendar
from shared.notices.load import load_all
from shared.notices.values import chinese_date
from shared.runtime.embedded import eventually
from shared.runtime.files import send

if TYPE_CHECKING:
    from services.cli.demo import Story

CITY, DISTRICT, HEAD = "440100", "440117", "cyyqsh"
CLUSTERS, STATIONS = "gz-clusters", "gz-stations-2019"
CLUSTER, STATION = "示例生态设计产业集群", "示例天河软件园服务站"

STAGES = {CLUSTERS: {"automatic": 12, "revoked": 1}, STATIONS: {"revoked": 1}}
"""Where the cases of the two notices end."""

GROWING = {
    "output_base": "30", "output_y3": "33", "output_y2": "36", "output_y1": "40",
    "rd_base": "1000", "rd_y3": "1150", "rd_y2": "1300", "rd_y1": "1500",
    "patents_base": 100, "patents_y3": 120, "patents_y2": 140, "patents_y1": 165,
}  # fmt: skip
ARGUED = (
    "policy", "pillar", "position", "brand", "gradient", "innovation", "standards", "technology", "operator",
    "service", "transition",
)  # fmt: skip
APPLICATION: dict[str, Any] = {
    "cluster_name": CLUSTER,
    "district": "从化区",
    "applicant_agency": "从化区科技工业商务和信息化局",
    "leading_industry": "工业设计服务",
    "operator_org": "示例生态设计小镇管理委员会",
    "spatial_scope": "示例镇域",
    "area_km2": "12.6",
    "higher_level": "无",
    **GROWING,
    "sme_output_share": "71.5",
    "leading_share": "66",
    "n_top": 1,
    "n_broad": 12,
    "patents_per_10k": "15",
    "iip_adoption": "22",
    **{f"e_{key}": "说明见佐证材料" for key in ARGUED},
    "plan_summary": "三年内建成公共技术平台",
    "plan_targets": [{"indicator": "产值", "now": "40亿元", "target": "60亿元"}],
    "declaration": True,
}
YEARLY: dict[str, Any] = {
    "plan_execution": "按计划推进",
    "target_progress": [{"indicator": "产值", "target": "60亿元", "actual": "45亿元"}],
    "experience": "以平台带动",
    "problems_measures": "加强人才引进",
    "area_km2": "12.6",
    "output": "45",
    "sme_output_share": "70",
    "leading_share": "65",
    "n_top": 1,
    "n_broad": 12,
    "rd": "1600",
    "patents": 180,
    "patents_per_10k": "16",
    "iip_adoption": "25",
}
STATION_FORM: dict[str, Any] = {
    "operator_name": "示例软件园运营有限公司",
    "office_address": "广州市天河区示例路1号",
    "operator_type": "软件园区",
    "target_industry": "软件和信息技术服务业",
    "registered_on": "2012年5月8日",
    "legal_nature": "有限责任公司",
    "legal_rep": "示例甲",
    "registered_address": "广州市天河区示例路1号",
    "postcode": "510630",
    "contact_name": "示例乙",
    "contact_phones": "020-83726619、13800138000",
    "contact_email": "station@example.com",
    "park_opened": "2013年1月",
    "enterprises_served": 320,
    **{
        f"{key}_{year}": value
        for year in ("y1", "y2")
        for key, value in {
            "revenue_wan": "1200", "service_revenue_wan": "300", "total_assets_wan": "5000",
            "total_profit_wan": "-20", "taxes_wan": "90", "smes_served": 150,
        }.items()
    },
    "station_name": STATION,
    "staff_fulltime": 2,
    "staff_qualified": 2,
    "staff_parttime": 1,
    "area_m2": "120",
    "location": "软件园A座1楼",
    "head_name": "示例丙",
    "head_phones": "020-83726619、13800138000",
    "head_email": "head@example.com",
    "head_education": "本科",
}  # fmt: skip
PAPERS = ("licence", "staff_evidence", "premises", "statements_2018", "service_evidence")


class Lives:
    """Goes on where the collection's story has ended: the same servers, the same clock, later days."""

    def __init__(self, story: "Story") -> None:
        self.story = story
        self.print = story.print
        self.notices = {id_: one.notice for id_, one in load_all().items()}
        self.calendar = Calendar.load()

    async def play(self) -> dict[str, Any]:
        """Both lives; where the cases of each notice stand at the end."""
        await self.cluster()
        await self.station()
        found = {}
        for notice in STAGES:
            rows = await self.story.sight.query(
                'select stage, count(*) as n from review."case" where notice = :notice group by stage order by stage',
                notice=notice,
            )
            found[notice] = {row["stage"]: row["n"] for row in rows}
        return found

    # --- a cluster ---

    async def cluster(self) -> None:
        title = "一个市级集群的七年：培育入库、认定、年度填报、复核、撤销"
        self.print(f"\n[bold magenta]{title}[/bold magenta]（《工作指引》；集群和数据均为示例）")
        await self.day(date(2025, 4, 1), "培育入库")
        given = await self.story.sight.query(
            "select title from review.\"case\" where notice = :n and stage = 'automatic'", n=CLUSTERS
        )
        self.tell(f"国家级、省级集群{len(given)}个，自动认定为市级集群（指引 1.6）")
        pool = {
            key: APPLICATION[key] for key in ("cluster_name", "district", "leading_industry", "operator_org")
        }
        case = await self.file(CLUSTERS, "F15-1", DISTRICT, pool)
        await self.day(date(2025, 5, 6), "申报")
        weak = {**APPLICATION, "patents_per_10k": "14.9"}
        await self.turned_away(CLUSTERS, "F15", DISTRICT, weak, ("proof", "plan"))
        again = await self.file(CLUSTERS, "F15", DISTRICT, APPLICATION, ("proof", "plan"))
        if again != case:
            self.story.wrong.append("入库与申报不是同一项目")
        await self.assessed(case)
        await self.decide(case, "recommend", "初审合格，予以推荐", DISTRICT)
        judged = {
            r.id: "met"
            for r in self.notices[CLUSTERS].rules
            if r.judged_by == "city" and r.severity != "info"
        }
        await self.decide(case, "accept", "材料完整，符合条件", judgements=judged)
        await self.day(date(2025, 5, 20), "专家评审")
        self.refused(await self.score(CLUSTERS, case, "e-0", "示例生态设计小镇管理委员会"), "回避")
        for n, share in enumerate(("0.8", "0.85", "0.9", "0.7", "0.95"), 1):
            self.story.hold(await self.score(CLUSTERS, case, f"e-{n}", f"示例大学{n}", share), True, "评分")
        await self.decide(case, "conclude", "专家组评审结束")
        (row,) = await self.rows(case)
        self.tell(f"5名专家评分，去掉最高分和最低分，平均{row['score']}分；1名专家回避")
        await self.day(date(2025, 5, 28), "公示")
        await self.decide(case, "propose", "择优列入拟定名单")
        await self.due(case, "公示7个工作日（端午节不计）")
        await self.day(date(2025, 6, 3), "异议")
        await self.decide(case, "object", "收到异议，暂缓")
        await self.day(date(2025, 6, 9), "异议处理")
        await self.decide(case, "dismiss", "异议不成立，继续公示")
        await self.due(case, "公示期限不变")
        await self.day(date(2025, 6, 10), "发布名单")
        await self.reach(case, "listing")
        await self.decide(case, "publish", "公布市级集群名单")
        await self.due(case, "有效期三年")
        for year in (2026, 2027, 2028):
            await self.year(year, [] if year == 2027 else [case])
            if year == 2027:
                await self.overdue(case)
        await self.day(date(2028, 5, 10), "申请复核")
        await self.decide(case, "reapply", "规划目标完成，申请复核", DISTRICT)
        await self.day(date(2028, 6, 20), "复核")
        await self.decide(case, "renew", "三年规划目标完成，复核通过", judgements={"R-CLU-071": "met"})
        await self.due(case, "有效期从原期满之日起延长三年")
        for year in (2029, 2030, 2031):
            await self.year(year, [case])
        await self.day(date(2031, 6, 11), "期满未申请复核")
        await self.reach(case, "revocation")
        self.tell("有效期满未申请复核：提请市局审定（指引 4.3.1），由人决定")
        await self.decide(case, "revoke", "有效期满未申请复核", rules=("R-CLU-074",))
        self.tell("市局撤销认定，从名单上去掉")

    async def year(self, year: int, cases: Sequence[UUID]) -> None:
        """The yearly forms of the clusters, in time; those left out are missed."""
        await self.day(date(year, 2, 26), f"{year - 1}年度填报")
        rows = await self.story.sight.query(
            'select "case", title, district from review."case" where notice = :n and stage = \'automatic\'',
            n=CLUSTERS,
        )
        told = [(r["case"], r["title"], r["district"]) for r in rows] + [
            (c, CLUSTER, DISTRICT) for c in cases
        ]
        form = {**YEARLY, "report_year": year - 1}
        answers = await asyncio.gather(
            *(
                self.submit(CLUSTERS, "F16", who, {**form, "cluster": title}, case=id_)
                for id_, title, who in told
            )
        )
        for answer, (_, title, _) in zip(answers, told, strict=True):
            self.story.hold(answer, True, f"{title} {year - 1}年度")
        await self.story.sight.settled()
        self.tell(f"{len(told)}个集群报送{year - 1}年度培育情况（2月底前，指引 4.2）")

    async def overdue(self, case: UUID) -> None:
        await self.day(date(2027, 3, 1), "逾期")
        await self.reach(case, "revocation")
        self.tell("示例集群未报2026年度：出现撤销情形（R-CLU-076），提请市局审定，由人决定")
        answer = await self.submit(
            CLUSTERS, "F16", DISTRICT, {**YEARLY, "report_year": 2026, "cluster": CLUSTER}, case=case
        )
        self.story.hold(answer, True, "补报")
        await self.story.sight.settled()
        await self.decide(case, "keep", "已补报，情节轻微，不予撤销")
        self.tell("补报后市局决定不予撤销，有效期不变")

    # --- a station ---

    async def station(self) -> None:
        title = "一个服务站的一年：申请、改报、评审、授牌、签约、应报不报、退出"
        self.print(f"\n[bold magenta]{title}[/bold magenta]（2019年通知，把日历翻回去；单位和数据均为示例）")
        await self.day(date(2019, 6, 3), "申请")
        who = self.story.agency("K6:示例软件园运营有限公司")
        case = await self.file(STATIONS, "F12", who.code, STATION_FORM, PAPERS, recommender="440105")
        await self.decide(case, "misdirected", "注册地在天河区，请改报", "440105")
        again = await self.file(
            STATIONS, "F12", who.code, STATION_FORM, PAPERS, recommender="440106", case=case
        )
        if again != case:
            self.story.wrong.append("改报后不是同一项目")
        self.tell("先报到海珠区，退回后改报天河区，编号不变")
        await self.day(date(2019, 6, 18), "天河区截止", hour=17, minute=1)
        late = self.story.agency("K6:示例迟到园区管理有限公司").code
        form = {**STATION_FORM, "operator_name": "示例迟到园区管理有限公司", "station_name": "示例迟到服务站"}
        await self.turned_away(STATIONS, "F12", late, form, PAPERS, recommender="440106")
        await self.day(date(2019, 6, 20), "区初审、推荐")
        await self.decide(case, "accept", "受理", "440106")
        await self.decide(case, "recommend", "初审合格，推荐上报", "440106", acknowledge=True)
        await self.day(date(2019, 7, 10), "总站汇总、专家评审")
        await self.decide(case, "collate", "材料齐全", HEAD)
        for n in (1, 2, 3):
            self.story.hold(
                await self.score(STATIONS, case, f"s-{n}", f"示例学院{n}", "0.9", HEAD), True, "评分"
            )
        await self.decide(case, "conclude", "建议评定", HEAD)
        await self.day(date(2019, 8, 15), "审定、公布名单、授牌")
        await self.decide(case, "approve", "同意评定")
        await self.decide(case, "publish", "公布名单，授牌")
        await self.due(case, "签署公约")
        await self.day(date(2019, 8, 28), "签署公约、挂牌运行")
        await self.decide(case, "sign", "签署服务公约", who.code)
        report = {
            "station": STATION,
            "rules_title": "服务站工作制度",
            "adopted_on": "2019年9月1日",
            "content": "值班、接访",
        }
        self.story.hold(await self.submit(STATIONS, "F12-4", who.code, report), True, "工作制度备案")
        self.tell("工作制度报总站备案；通知没有写明有效期，系统也不设")
        await self.day(date(2019, 10, 8), "第三季度信息未报")
        await self.day(date(2019, 11, 20), "满意度调查")
        fact = FactReported(
            case=case,
            kind="survey",
            occurred_on=date(2019, 11, 18),
            detail="满意度调查结果",
            score=Decimal(58),
        )
        self.story.hold(await self.story.say(HEAD, registry.FACT_REPORTED, fact, case), True, "调查")
        await self.reach(case, "active")
        self.tell("满意度58分：通知没有分数线，只作记录，不自动构成事由（AMB-08）")
        await self.day(date(2020, 1, 2), "年度总结和第四季度信息也未报")
        await eventually(lambda: self.raised(case), PATIENCE, "the ground")
        self.tell("应报未报两次：提示总站核实（R-STA-042），由人决定是否提出")
        city = DecisionMade(case=case, outcome="propose_exit", reason="应报未报", rules=("R-STA-042",))
        self.refused(await self.story.say(CITY, registry.DECISION_MADE, city, case, "city"), "服务总站办理")
        await self.decide(case, "propose_exit", "多次应报未报，经提醒仍不报送", HEAD, rules=("R-STA-042",))
        await self.due(case, "听取服务站意见")
        await self.day(date(2020, 2, 10), "审定")
        await self.reach(case, "ruling")
        await self.decide(case, "revoke", "同意总站意见，撤销称号和授牌", rules=("R-STA-042",))
        await self.turned_away(STATIONS, "F12", who.code, STATION_FORM, PAPERS, recommender="440106")

    async def raised(self, case: UUID) -> bool:
        sql = "select 1 from review.history where \"case\" = :c and outcome = 'raise'"
        return bool(await self.story.sight.query(sql, c=case))

    # --- doing ---

    async def submit(
        self,
        notice: str,
        form: str,
        who: str,
        values: Mapping[str, Any],
        materials: Sequence[str] = (),
        recommender: str | None = None,
        case: UUID | None = None,
    ) -> dict[str, Any]:
        files = []
        for material in materials:
            body = papers.scan(f"{who} {material}", "示例")
            sha256 = await send(await self.story.client(who), who, body)
            files.append(
                FileRef(role="scan", sha256=sha256, size=len(body), name=f"{material}.pdf", material=material)
            )
        agency = self.story.directory.find(who) or self.story.agency(f"K6:{self.names[who]}")
        data = SubmissionFiled(
            notice=notice,
            form=form,
            filer=self.story.filer(agency),
            recommender=recommender,
            values=dict(values),
            files=tuple(files),
            case=case,
        )
        return await self.story.say(who, registry.SUBMISSION_FILED, data, data.model_dump_json())

    @property
    def names(self) -> dict[str, str]:
        """Applicants that no directory lists, by the code that follows from their name."""
        listed = ("示例软件园运营有限公司", "示例迟到园区管理有限公司")
        return {self.story.agency(f"K6:{name}").code: name for name in listed}

    async def file(self, *arguments: Any, **more: Any) -> UUID:
        """The case that a filing opened or belongs to."""
        answer = await self._filed(True, *arguments, **more)
        if "case" not in answer:
            raise RuntimeError(f"{arguments[1]}: {answer['detail']}")
        return UUID(answer["case"])

    async def turned_away(self, *arguments: Any, **more: Any) -> None:
        await self._filed(False, *arguments, **more)

    async def _filed(
        self, good: bool, notice: str, form: str, who: str, *arguments: Any, **more: Any
    ) -> dict[str, Any]:
        annex = self.notices[notice].by_form[form].annex
        answer = await self.submit(notice, form, who, *arguments, **more)
        self.story.hold(answer, good, annex)
        agency = self.story.directory.find(who)
        result = "[green]受理[/green]" if "accepted" in answer else "[red]不予受理[/red]"
        self.print(f"  [bold]{agency.name if agency else self.names[who]}[/bold] {annex}：{result}")
        self.story.read_out(answer)
        await self.story.sight.settled()
        return answer

    async def decide(
        self,
        case: UUID,
        outcome: str,
        reason: str,
        who: str = CITY,
        *,
        rules: Sequence[str] = (),
        judgements: Mapping[str, Any] | None = None,
        acknowledge: bool = False,
    ) -> None:
        (before,) = await self.rows(case)
        soft = {f["rule"] for f in before["findings"] if f["severity"] == "soft"}
        decision = DecisionMade(
            case=before["case"],
            outcome=outcome,
            reason=reason,
            rules=tuple(rules),
            acknowledges=tuple(sorted(soft)) if acknowledge or judgements else (),
            judgements=dict(judgements or {}),
            version=before["version"],
            officer="demo",
        )
        cause = (before["case"], before["version"], outcome)
        answer = await self.story.say(who, registry.DECISION_MADE, decision, *cause)
        procedure = self.notices[before["notice"]].procedure
        name = procedure.by_id[before["stage"]].outcomes[outcome].name
        self.story.hold(answer, True, f"{before['number']} {name}")
        await self.story.sight.settled()
        (after,) = await self.rows(case)
        self.tell(f"{name}：{procedure.by_id[before['stage']].name} → {procedure.by_id[after['stage']].name}")

    async def score(
        self, notice: str, case: UUID, expert: str, employer: str, share: str = "0.8", who: str = CITY
    ) -> dict[str, Any]:
        (row,) = await self.rows(case)
        panel = self.notices[notice].procedure.by_id[row["stage"]].panel
        assert panel
        points = {c.key: Decimal(str(c.most)) * Decimal(share) for c in panel.criteria}
        sheet = ScoreGiven(case=row["case"], expert=Expert(code=expert, employer=employer), points=points)
        return await self.story.say(who, registry.SCORE_GIVEN, sheet, case, expert)

    # --- seeing ---

    async def day(self, day: date, title: str, hour: int = 10, minute: int = 0) -> None:
        """The day comes, and with it the reminders that are due on it: a day is over in a moment here, and what has
        not been entered by then would never be."""
        await self.story.day(day, title, hour, minute)
        now = datetime.combine(day, time(hour, minute), SHANGHAI)
        for notice in self.notices.values():
            for deadline in notice.deadlines:
                rung = due_now(rungs(deadline, self.calendar), None, now)
                sql = "select unit from notify.fact where notice = :n and fact = :f"
                spared = {
                    r["unit"] for r in await self.story.sight.query(sql, n=notice.id, f=deadline.unless)
                }
                agencies = [a for kind in deadline.remind for a in self.story.directory.of_kind(kind)]
                left = [a for a in agencies if a.code not in spared and concerns(notice, deadline, a)]
                if rung and left:
                    like = f"deadline/{notice.id}/{deadline.id}/%/{rung.key}/%"
                    await eventually(partial(self.owed, like), PATIENCE, like)

    async def owed(self, like: str) -> bool:
        return bool(await self.story.sight.query("select 1 from notify.mail where key like :k", k=like))

    async def rows(self, case: UUID) -> Sequence[Mapping[str, Any]]:
        return await self.story.sight.query('select * from review."case" where "case" = :c', c=case)

    async def reach(self, case: UUID, stage: str) -> None:
        async def there() -> bool:
            return bool((await self.rows(case))[0]["stage"] == stage)

        await eventually(there, PATIENCE, f"the stage {stage}")
        await self.story.sight.settled()

    async def due(self, case: UUID, what: str) -> None:
        (row,) = await self.rows(case)
        self.tell(f"{what}：至{chinese_date(row['due'])}")

    async def assessed(self, case: UUID) -> None:
        (row,) = await self.rows(case)
        met = [a for a in row["assessments"] if a["verdict"] == "met"]
        self.tell(f"定量条件{len(met)}/{len(row['assessments'])}项符合，如：")
        for one in [a for a in met if a["rule"] in ("R-CLU-025", "R-CLU-028", "R-CLU-032")]:
            self.print(f"    • {one['rule']} {one['figure']}（{one['clause']}）")

    def refused(self, answer: Mapping[str, Any], why: str) -> None:
        said = f"{answer.get('title', '')} {answer.get('detail', '')}"
        if "rejected" not in answer or why not in said:
            self.story.wrong.append(f"应被拒绝（{why}），实为{answer}")
        self.tell(f"[red]{escape(said)}[/red]")

    def tell(self, line: str) -> None:
        self.print(f"  {line}")
