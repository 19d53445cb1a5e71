"""Every rule that a machine judges: met, broken, not applicable and not in force, on both sides of each bound."""

from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.types import ItemKind, Kind
from shared.notices.load import load
from shared.notices.model import Notice
from shared.notices.rules import Facts, Item, RuleBook
from tests.items import APPLICATION, CLUSTER, COMPANY, LECTURE, LOAN

FILE = Path(__file__).parents[2] / "shared/notices/data/gz-collection-2025q1.yaml"
COMPILED = load(FILE)
NOTICE = COMPILED.notice
BOOK = COMPILED.rules
TODAY = date(2025, 3, 1)

ROWS = {"F3": LECTURE, "F5": LOAN, "F8": CLUSTER, "F9-2": COMPANY, "F10-1": APPLICATION}
GAMES = {**LECTURE, "service_domain": "第十五届全运会产品和服务场景对接服务"}


@dataclass(frozen=True)
class Case:
    """One item, with whoever files it and what is remembered; by default a lecture filed by a district."""

    kind: Kind = "K2"
    form: str = "F3"
    row: dict[str, str] = field(default_factory=dict)
    item_kind: ItemKind | None = None
    unit_kind: Kind | None = None
    registered: bool = False
    facts: Facts = field(default_factory=Facts)

    def known(self, book: RuleBook = BOOK) -> dict[str, Any]:
        judged = COMPILED.forms[self.form].judge({**ROWS[self.form], **self.row})
        assert judged.stored is not None
        item = Item(
            form=NOTICE.by_form[self.form],
            stored=judged.stored,
            title=judged.title,
            kind=self.item_kind or judged.item_kind,
            direction=judged.direction,
            filer_kind=self.kind,
            filer_code="440111",
            filer_name="某单位",
            registered=self.registered,
            late=False,
            unit_kind=self.unit_kind,
            unit_name="某推荐单位" if self.unit_kind else None,
        )
        return book.known(item, self.facts)

    def verdict(self, rule: str, book: RuleBook = BOOK, on: date = TODAY) -> str | None:
        known = self.known(book)
        found = {
            one.id: verdict
            for tallied in (False, True)
            for one, verdict, _ in book.verdicts(self.form, known, on, tallied=tallied)
        }
        return found.get(rule)

    def says(self, rule: str) -> str:
        known = self.known()
        return next(
            says
            for tallied in (False, True)
            for one, _, says in BOOK.verdicts(self.form, known, TODAY, tallied=tallied)
            if one.id == rule
        )


def counted(**tallies: int) -> Facts:
    return Facts(tallies=tallies)


def other(domain: str = "其他（知识产权）") -> dict[str, str]:
    return {"service_domain": domain}


ITEMS = [
    # 征集通知·二·1: K1 and K2, two per direction, activities and products together
    ("R-COL-010", Case("K1", facts=counted(direction_items=2)), "met"),
    ("R-COL-010", Case("K1", facts=counted(direction_items=3)), "broken"),
    ("R-COL-010", Case("K2", facts=counted(direction_items=2)), "met"),
    ("R-COL-010", Case("K2", facts=counted(direction_items=3)), "broken"),
    ("R-COL-010", Case("K2", form="F5", facts=counted(direction_items=3)), "broken"),
    ("R-COL-010", Case("K2", row=other(), facts=counted(direction_items=3)), "not_applicable"),
    ("R-COL-010", Case("K6", facts=counted(direction_items=3)), "not_applicable"),
    # spec §3.1: each 附件10-1 is one product as well, though no 附件10-2 lists it
    ("R-COL-010", Case("K1", form="F10-1", facts=counted(direction_applications=2)), "met"),
    ("R-COL-010", Case("K1", form="F10-1", facts=counted(direction_applications=3)), "broken"),
    ("R-COL-011", Case("K3", form="F10-1", facts=counted(products_by_application=2)), "broken"),
    ("R-COL-011", Case("K3", form="F5", facts=counted(products=1, products_by_application=2)), "broken"),
    ("R-COL-012", Case("K6", form="F10-1", facts=counted(direction_applications=4)), "broken"),
    # AMB-14: an institution that a district recommends is counted against the district
    ("R-COL-010", Case("K6", unit_kind="K2", facts=counted(direction_items=3)), "broken"),
    ("R-COL-012", Case("K6", unit_kind="K2", facts=counted(direction_items=4)), "not_applicable"),
    # 征集通知·二·2: K3 and K4, three activities and one product a unit
    ("R-COL-011", Case("K3", facts=counted(activities=3, products=1)), "met"),
    ("R-COL-011", Case("K3", facts=counted(activities=4, products=1)), "broken"),
    ("R-COL-011", Case("K4", form="F5", facts=counted(activities=3, products=1)), "met"),
    ("R-COL-011", Case("K4", form="F5", facts=counted(activities=3, products=2)), "broken"),
    ("R-COL-011", Case("K3", item_kind="product", facts=counted(activities=4, products=1)), "met"),
    ("R-COL-011", Case("K3", facts=counted(activities=3, products=2)), "met"),
    ("R-COL-011", Case("K5", facts=counted(activities=9)), "not_applicable"),
    # 征集通知·二·3: K5 and K6, three per direction
    ("R-COL-012", Case("K5", facts=counted(direction_items=3)), "met"),
    ("R-COL-012", Case("K5", facts=counted(direction_items=4)), "broken"),
    ("R-COL-012", Case("K6", facts=counted(direction_items=3)), "met"),
    ("R-COL-012", Case("K6", facts=counted(direction_items=4)), "broken"),
    ("R-COL-012", Case("K6", row=other(), facts=counted(direction_items=4)), "not_applicable"),
    ("R-COL-012", Case("K1", facts=counted(direction_items=4)), "not_applicable"),
    # 征集通知·二·2: platforms and bases with activities register
    ("R-COL-014", Case("K3", registered=True), "met"),
    ("R-COL-014", Case("K3", registered=False), "broken"),
    ("R-COL-014", Case("K4", registered=False), "broken"),
    ("R-COL-014", Case("K3", form="F5", registered=False), "not_applicable"),
    ("R-COL-014", Case("K6", registered=False), "not_applicable"),
    # 附件5 注: nothing that was published before
    ("R-COL-022", Case(form="F5"), "met"),
    ("R-COL-022", Case(form="F5", facts=Facts(published_earlier=True, published_where="旧目录")), "broken"),
    ("R-COL-022", Case(form="F3", facts=Facts(published_earlier=True)), None),
    # 附件3: an item for the Games names a scene
    ("R-COL-026", Case(row={**GAMES, "content": "面向智慧场馆的对接"}), "met"),
    ("R-COL-026", Case(row={**GAMES, "activity_name": "5G通信技术专场"}), "met"),
    ("R-COL-026", Case(row={**GAMES, "content": "其他（低空经济）"}), "met"),
    ("R-COL-026", Case(row=GAMES), "broken"),
    ("R-COL-026", Case(), "not_applicable"),
    # 附件9-2 注: one enterprise a form
    ("R-COL-029", Case(form="F9-2"), "met"),
    ("R-COL-029", Case(form="F9-2", row={"company_name": "甲公司、乙公司"}), "broken"),
    ("R-COL-029", Case(form="F9-2", row={"company_name": "甲信息科技\n有限公司"}), "met"),
    # 附件10-1: results with figures, a title of one shape that is everywhere the same, the declaration
    ("R-COL-033a", Case(form="F10-1"), "met"),
    ("R-COL-033a", Case(form="F10-1", row={"results": "成效显著。"}), "broken"),
    ("R-COL-035", Case(form="F10-1"), "met"),
    ("R-COL-035", Case(form="F10-1", row={"case_title": "某案例"}), "broken"),
    ("R-COL-035a", Case(form="F10-1"), "met"),
    ("R-COL-035a", Case(form="F10-1", row={"org_name": "乙公司"}), "broken"),
    ("R-COL-036", Case(form="F10-1"), "met"),
    ("R-COL-036", Case(form="F10-1", row={"declaration_accepted": "否"}), "broken"),
    # ours: the same item twice in a round
    ("R-COL-040", Case(), "met"),
    ("R-COL-040", Case(facts=Facts(refiled=True)), "broken"),
    ("R-COL-040", Case("K6", form="F5", facts=Facts(refiled=True)), "broken"),
]


@pytest.mark.parametrize(("rule", "case", "expected"), ITEMS)
def test_a_rule_of_one_item(rule: str, case: Case, expected: str | None) -> None:
    assert case.verdict(rule) == expected


def filer(kind: Kind = "K2", *, registered: bool = False) -> dict[str, Any]:
    return {
        "filer.kind": kind,
        "filer.code": "440111",
        "filer.name": "某区",
        "filer.registered": registered,
    }


def package(
    *forms: str, scan: bool = True, editable: bool = True, june: int = 1, **titles: list[str]
) -> dict[str, Any]:
    return {
        "filed.forms": list(forms),
        "filed.titles": {form: titles.get(form.replace("-", "_"), ["某项目"]) for form in forms},
        "facts.has_scan": scan,
        "facts.has_editable": editable,
        "facts.june_activities": june,
    }


def broken_by(who: dict[str, Any], what: dict[str, Any], book: RuleBook = BOOK, on: date = TODAY) -> set[str]:
    return {
        finding.rule
        for tallied in (False, True)
        for finding in book.package_findings(who, what, on, tallied=tallied)
    }


PACKAGES = [
    ("R-COL-004", filer(), package("F3"), False),
    ("R-COL-004", filer(), package("F3", june=0), True),  # T-COL-06
    ("R-COL-004", filer(), package("F8", june=0), True),
    ("R-COL-004", filer(), package("F5", "F3", june=0), True),
    ("R-COL-004", filer(), package("F5", june=0), False),  # products only: not the place to ask
    ("R-COL-004", filer("K1"), package("F3", june=0), False),
    ("R-COL-018", filer(), package("F3"), False),
    ("R-COL-018", filer(), package("F3", scan=False), True),
    ("R-COL-018", filer(), package("F3", editable=False), True),  # T-COL-08
    ("R-COL-018", filer("K6"), package("F10-2", scan=False, editable=False), True),
    ("R-COL-038a", filer(), package("F10-1", "F10-2"), False),
    ("R-COL-038a", filer(), package("F10-1", "F10-2", F10_2=["某项目", "另一项目"]), True),  # T-COL-13
]


@pytest.mark.parametrize(("rule", "who", "what", "broken"), PACKAGES)
def test_a_rule_of_a_package(rule: str, who: dict[str, Any], what: dict[str, Any], broken: bool) -> None:
    assert (rule in broken_by(who, what)) is broken


MACHINE = sorted(rule.id for rule in NOTICE.rules if rule.holds)


def test_the_tables_above_leave_out_no_rule() -> None:
    verdicts: dict[str, set[str | None]] = {}
    for rule, _, expected in ITEMS:
        verdicts.setdefault(rule, set()).add(expected)
    for rule, _, _, broken in PACKAGES:
        verdicts.setdefault(rule, set()).add("broken" if broken else "met")
    assert sorted(verdicts) == MACHINE
    assert all({"met", "broken"} <= found for found in verdicts.values())


def limited(rule: str, **dates: date) -> RuleBook:
    rules = tuple(one.model_copy(update=dates) if one.id == rule else one for one in NOTICE.rules)
    return RuleBook(NOTICE.model_copy(update={"rules": rules}))


DAY = timedelta(days=1)


@pytest.mark.parametrize("rule", MACHINE)
def test_a_rule_holds_from_its_first_day_to_its_last(rule: str) -> None:
    book = limited(rule, since=TODAY, until=TODAY + DAY)
    broken = next((case for one, case, expected in ITEMS if one == rule and expected == "broken"), None)
    for on, in_force in ((TODAY - DAY, False), (TODAY, True), (TODAY + DAY, True), (TODAY + 2 * DAY, False)):
        if broken is not None:
            assert broken.verdict(rule, book, on) == ("broken" if in_force else "not_in_force")
        else:
            who, what = next((w, p) for one, w, p, is_broken in PACKAGES if one == rule and is_broken)
            assert (rule in broken_by(who, what, book, on)) is in_force


# --- quotas told in numbers (T-COL-01…03) ---


def test_a_district_with_two_activities_and_one_product_in_one_direction() -> None:
    facts = counted(direction_items=3, direction_activities=2, direction_products=1)
    case = Case("K2", item_kind="product", facts=facts)
    assert case.verdict("R-COL-010") == "broken"
    assert case.says("R-COL-010") == (
        "某单位在法律服务方向已有服务活动2个、服务产品1款，共3个（款），附件10-1申报书0份；原则上每个方向不超过2个（款），"
        "特别优秀的可由市局放宽"
    )


def test_counted_separately_the_same_district_is_within_its_quota() -> None:
    separate = RuleBook(NOTICE.model_copy(update={"quota_mode": "separate"}))
    two = counted(direction_items=3, direction_activities=2, direction_products=1)
    three = counted(direction_items=3, direction_activities=3, direction_products=0)
    assert Case("K2", item_kind="product", facts=two).verdict("R-COL-010", separate) == "met"
    assert Case("K2", facts=three).verdict("R-COL-010", separate) == "broken"
    assert Case("K5", facts=three).verdict("R-COL-012", separate) == "met"


def test_a_platform_with_three_activities_and_one_product() -> None:
    facts = counted(activities=3, products=1)
    assert Case("K3", facts=facts).verdict("R-COL-011") == "met"
    assert Case("K3", form="F5", facts=facts).verdict("R-COL-011") == "met"


def test_a_platform_with_four_activities_and_two_products() -> None:
    facts = counted(activities=4, products=2)
    for case in (Case("K3", facts=facts), Case("K3", form="F5", facts=facts)):
        assert case.verdict("R-COL-011") == "broken"
        assert case.says("R-COL-011") == (
            "某单位已有服务活动4个、服务产品2款（典型案例按附件10-1计为0款）；原则上每个单位服务活动不超过3个、服务产品不超过1款，"
            "特别优秀的可由市局放宽"
        )


def test_a_recommended_item_is_told_to_the_unit_that_recommends_it() -> None:
    case = Case("K6", unit_kind="K5", facts=counted(direction_items=4, direction_activities=4))
    assert case.says("R-COL-012").startswith("某推荐单位在法律服务方向")


def test_an_earlier_publication_is_pointed_to() -> None:
    facts = Facts(published_earlier=True, published_where="《2024年目录》第3行")
    finding = next(
        f
        for f in BOOK.findings("F5", Case(form="F5", facts=facts).known(), TODAY, tallied=False)
        if f.rule == "R-COL-022"
    )
    assert finding.severity == "hard"
    assert finding.clause == "附件5 注"
    assert finding.pointer == "#/data/values/product_name"
    assert "见《2024年目录》第3行" in finding.detail


def test_the_scenes_are_listed_for_an_item_that_names_none() -> None:
    assert "智慧城市、智慧场馆、自动化技术" in Case(row=GAMES).says("R-COL-026")


# --- what is counted ---

JUNE = ("service_month", "")
"""By whoever files one: they are reminded of the month (DL-03)."""


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (Case("K1"), [("direction_items", "D05"), ("direction_activities", "D05"), JUNE]),
        (Case("K1", form="F5"), [("direction_items", "D04"), ("direction_products", "D04")]),
        (Case("K5", row=other()), [JUNE]),
        (Case("K3"), [("activities", ""), JUNE]),
        (Case("K4", form="F5"), [("products", ""), ("products_by_application", "")]),
        (Case("K4", form="F10-1"), [("products_by_application", "")]),
        (Case("K1", form="F10-1"), [("direction_applications", "D09")]),
        (Case("K6", unit_kind="K1"), [("direction_items", "D05"), ("direction_activities", "D05"), JUNE]),
        (
            Case("K2"),
            [("direction_items", "D05"), ("direction_activities", "D05"), ("june_activities", ""), JUNE],
        ),
    ],
)
def test_what_an_item_counts_towards(case: Case, expected: list[tuple[str, str]]) -> None:
    assert BOOK.tallies(case.form, case.known()) == expected


@pytest.mark.parametrize(
    ("form", "when", "counts"),
    [
        ("F3", "2025年5月31日", False),
        ("F3", "2025年6月1日", True),
        ("F3", "2025年6月30日", True),
        ("F3", "2025年7月1日", False),
        ("F3", "5月20日至6月1日", True),
        ("F3", "6月30日至7月2日", True),
        ("F3", "5月1日至8月1日", True),
        ("F3", "2026年6月10日", False),
        ("F3", "6月", True),
        ("F3", "长期", False),
        ("F8", "2025年6月1日", True),
        ("F8", "2025年5月31日", False),
    ],
)
def test_an_activity_touches_june(form: str, when: str, counts: bool) -> None:
    column = {"F3": "activity_time", "F8": "offer_time"}[form]
    case = Case("K2", form=form, row={column: when})
    assert (("june_activities", "") in BOOK.tallies(form, case.known())) is counts


def test_a_product_is_no_june_activity() -> None:
    case = Case("K2", form="F8", row={"participants": "—"})
    assert "june_activities" not in dict(BOOK.tallies("F8", case.known()))


# --- how rules are judged ---


def test_a_failing_expression_does_not_pass_for_true() -> None:
    """CEL returns its errors as values; a text is true in Python."""
    rules = tuple(
        one.model_copy(update={"holds": "row.organizer == '' || int(row.organizer) > 0", "forms": ("F3",)})
        if one.id == "R-COL-040"
        else one
        for one in NOTICE.rules
    )
    book = RuleBook(NOTICE.model_copy(update={"rules": rules}))
    assert Case(row={"organizer": "1"}).verdict("R-COL-040", book) == "met"
    assert Case(row={"organizer": "某协会"}).verdict("R-COL-040", book) == "broken"


def test_a_fact_that_the_caller_forgets_is_an_error() -> None:
    with pytest.raises(LookupError, match=r"facts\.has_editable"):
        BOOK.package_findings(filer(), {"filed.forms": ["F3"]}, TODAY, tallied=False)


def test_rules_that_count_wait_until_the_item_is_counted() -> None:
    known = Case("K2", facts=counted(direction_items=3)).known()
    before = {f.rule for f in BOOK.findings("F3", known, TODAY, tallied=False)}
    after = {f.rule for f in BOOK.findings("F3", known, TODAY, tallied=True)}
    assert "R-COL-010" not in before
    assert "R-COL-010" in after


CASES = st.builds(
    Case,
    kind=st.sampled_from(["K1", "K2", "K3", "K4", "K5", "K6"]),
    form=st.sampled_from(["F3", "F5", "F8"]),
    item_kind=st.sampled_from(["activity", "product"]),
    unit_kind=st.none() | st.sampled_from(["K1", "K2", "K5"]),
    registered=st.booleans(),
    facts=st.builds(
        Facts,
        published_earlier=st.booleans(),
        refiled=st.booleans(),
        tallies=st.fixed_dictionaries({t.name: st.integers(0, 6) for t in NOTICE.tallies}),
    ),
)
BACKWARDS = RuleBook(NOTICE.model_copy(update={"rules": NOTICE.rules[::-1]}))


def all_findings(book: RuleBook, case: Case) -> list[Any]:
    known = case.known(book)
    return [f for tallied in (False, True) for f in book.findings(case.form, known, TODAY, tallied=tallied)]


@given(CASES)
def test_judging_twice_and_in_another_order_finds_the_same(case: Case) -> None:
    found = all_findings(BOOK, case)
    assert all_findings(BOOK, case) == found
    assert sorted(map(repr, all_findings(BACKWARDS, case))) == sorted(map(repr, found))


@given(CASES, st.integers(0, 6))
def test_a_higher_count_never_mends_a_quota(case: Case, more: int) -> None:
    tallies = {name: count + more for name, count in case.facts.tallies.items()}
    grown = replace(case, facts=replace(case.facts, tallies=tallies))
    quotas = {"R-COL-010", "R-COL-011", "R-COL-012"}
    before = {f.rule for f in all_findings(BOOK, case)} & quotas
    assert before <= {f.rule for f in all_findings(BOOK, grown)}


def test_a_notice_without_rules_finds_nothing() -> None:
    empty: Notice = NOTICE.model_copy(update={"rules": ()})
    assert all_findings(RuleBook(empty), Case()) == []
