"""What is told about a notice that cannot be used: every mistake at its own line, with what to write instead."""

from pathlib import Path

import pytest

from shared.notices.load import NoticeBroken, load
from shared.notices.source import Fault

FILE = Path(__file__).parents[2] / "shared/notices/data/gz-collection-2025q1.yaml"
TEXT = FILE.read_text(encoding="utf-8")


def broken(*changes: tuple[str, str]) -> tuple[str, list[int]]:
    """The file with each text replaced where it first stands, and the lines on which that is."""
    text, lines = TEXT, []
    for old, new in changes:
        assert old in text, old
        at = text.index(old)
        kept = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), 0)
        lines.append(text.count("\n", 0, at + kept) + 1)
        text = text[:at] + new + text[at + len(old) :]
    return text, lines


def faults(text: str) -> tuple[Fault, ...]:
    with pytest.raises(NoticeBroken) as caught:
        load(text.encode(), "某通知.yaml")
    return caught.value.errors


ONE = [
    # a mail that is to wait, and no mail
    (
        ("to: selection, needs: [acknowledgement],", "to: selection, needs: [acknowledgement], hold: true,"),
        "procedure.stages[2].outcomes.accept",
        "hold 只用于写明信函（letter）的结果",
    ),
    # a value that is not among those allowed, with the nearest of them
    (
        ("severity: info", "severity: inof"),
        "rules[0].severity",
        '应为 hard、soft、info；实为 "inof"，是否想写 info？',
    ),
    (("type: period", "type: periode"), "forms[0].columns[3].type", "是否想写 period？"),
    (("kinds: [K2]", "kinds: [K9]"), "deadlines[1].kinds[0]", '应为 city、K1、K2、K3、K4、K5、K6；实为 "K9"'),
    # an unknown field, with the nearest and all that are possible
    (
        ("status: in_force", "statsu: in_force"),
        "statsu",
        "没有 statsu 这一项，是否想写 status？可用：id、title、",
    ),
    (("    params: {least: 1}", "    parms: {least: 1}"), "rules[3].parms", "是否想写 params？"),
    (("inherit: true, width", "inherits: true, width"), "forms[0].columns[0].inherits", "是否想写 inherit？"),
    # a wrong type
    (
        ("issued_on: 2025-02-21", "issued_on: 2025-02-30"),
        "issued_on",
        '应为 日期，如 2025-03-07；实为 "2025-02-30"',
    ),
    (("issued_on: 2025-02-21", "issued_on: 昨天"), "issued_on", "应为 日期"),
    (
        ('issuer: "440100"', "issuer: 440100"),
        "issuer",
        "应为 文字；实为 440100（数字和 true、false 须加引号）",
    ),
    (("year: 2025,", "year: 今年,"), "round.year", '应为 整数；实为 "今年"'),
    (("serial_width: 10", "serial_width: 宽"), "forms[0].serial_width", '应为 数字；实为 "宽"'),
    (("open: true", "open: 也许"), "lists.service_domain.open", "应为 true 或 false"),
    (("quarter: 1}", "quarter: 5}"), "round.quarter", "不大于 4 的数；实为 5"),
    (("width: 30}", "width: 0}"), "forms[0].columns[0].width", "大于 0 的数；实为 0"),
    (
        ("working_days: 5", "working_days: 0"),
        "procedure.stages[1].within.working_days",
        "大于 0 的数；实为 0",
    ),
    (("kinds: [K2]", "kinds: []"), "deadlines[1].kinds", "至少要有 1 项"),
    (("params: {limit: 2}", "params: {limit: [1]}"), "rules[9].params.limit", "文字的列表；实为 [1]"),
    (("  service_domain:\n", "  ServiceDomain:\n"), "lists.ServiceDomain", "以小写字母开头"),
    # an id that is none
    (("id: R-COL-005", "id: R-COL-5"), "rules[4].id", '规则编号，如 R-COL-010；实为 "R-COL-5"'),
    (("id: F4", "id: 附件4"), "forms[1].id", "表的编号，如 F3、F10-2"),
    (("key: organizer", "key: Organizer"), "forms[0].columns[1].key", '如 product_name；实为 "Organizer"'),
    (("code: D01", "code: X1"), "directions[0].code", '方向编号，如 D01；实为 "X1"'),
    # something twice
    (("status: in_force", "title: 又一个"), "title", "title 出现了两次，前一次在第8行；请只留一个"),
    (("id: R-COL-006", "id: R-COL-005"), "rules[5].id", "R-COL-005 出现了两次"),
    (("key: participants", "key: venue"), "forms[0].columns[6].key", "列 venue 出现了两次"),
    (
        ("aliases: [地点, ", "aliases: [活动内容, "),
        "forms[0].columns[5].header",
        "表头“活动内容”已用于列 venue",
    ),
    # parts that contradict one another
    (
        ("type: choice, list: service_domain", "type: choice"),
        "forms[0].columns[0]",
        "type: choice 与 list 必须同时出现",
    ),
    (
        ("judged_by: city", "judged_by: city\n    enforced_by: form"),
        "rules[8]",
        "有且仅有 holds、enforced_by、judged_by 之一",
    ),
    (
        ('    says: "{filer.name}已报送', '    waiver: "{filer.name}已报送'),
        "rules[3]",
        "holds 与 says 必须同时出现",
    ),
    (
        ("judged_by: city", "judged_by: city\n    when: 'true'"),
        "rules[8]",
        "when、params、figure 和 says_en 只用于有 holds 的规则",
    ),
    (
        ("    scope: package\n", "    scope: package\n    forms: [F3]\n"),
        "rules[3]",
        "scope: package 的规则不能有 forms",
    ),
    (("ends: closed}", "outcomes: {}}"), "procedure.stages[7]", "终点没有 outcomes"),
    # references to what is not there
    (
        ("list: service_domain, inherit", "list: domains, inherit"),
        "forms[0].columns[0].list",
        "没有代码表 domains；现有 ",
    ),
    (
        ("forms: [F10-2, F10-1]}", "forms: [F10-3, F10-1]}"),
        "directions[8].forms[0]",
        "没有表 F10-3；现有 F10-1、F10-2、F3",
    ),
    (
        ("direction: D02", "direction: D12"),
        "lists.service_domain.values[1].direction",
        "没有方向 D12；现有 D01",
    ),
    (("rule: R-COL-025", "rule: R-COL-099"), "lists.service_domain.rule", "没有规则 R-COL-099"),
    (("waiver: R-COL-013", "waiver: R-COL-113"), "rules[9].waiver", "没有规则 R-COL-113"),
    (("organizer: company_name", "organizer: company"), "forms[1].organizer", "没有名为 company 的列；现有 "),
    (("column: product_name", "column: product"), "rules[21].column", "表 F5 没有列 product"),
    (
        ("to: selection,", "to: selecton,"),
        "procedure.stages[2].outcomes.accept.to",
        "没有阶段 selecton；现有 ",
    ),
    (
        ("stage: formal_check, recommended: false", "stage: check, recommended: false"),
        "procedure.start[1].stage",
        "没有阶段 check",
    ),
    (("to: not_selected,", "to: rejected,"), "procedure.stages[8].id", "阶段 not_selected 从起点到不了"),
    (("recommended: false}", "recommended: true}"), "procedure.start[1]", "前面的起点已包括"),
    (("until: 2025-06-30", "until: 2025-05-30"), "deadlines[1].until", "until 早于 on"),
    (
        ("    unless: june_activities", "    filing: true\n    rule: R-COL-019"),
        "deadlines[1].filing",
        "只能有一个报送截止日",
    ),
    (("    unless: june_activities", "    filing: true"), "deadlines[1]", "须写明逾期所依据的规则"),
    # expressions
    (
        ('holds: "filer.registered"', 'holds: "filer.registred"'),
        "rules[13].holds",
        "没有 filer.registred 这个名字，是否想写 filer.registered？可用：",
    ),
    (
        ('holds: "!facts.published_earlier"', 'holds: "!row.published"'),
        "rules[21].holds",
        "表 F5：表达式里没有 row.published 这个名字",
    ),
    (
        ('holds: "!facts.refiled"', 'holds: "facts.refiled &&"'),
        "rules[42].holds",
        "语法错误：mismatched input '<EOF>'",
    ),
    (
        ('holds: "!facts.refiled"', 'holds: "facts.refiled > 1"'),
        "rules[42].holds",
        "类型不符，没有这样的运算",
    ),
    (
        ('holds: "!facts.refiled"', 'holds: "item.title"'),
        "rules[42].holds",
        "表达式应得出真或假（bool），实为 STRING",
    ),
    (
        ('holds: "!facts.refiled"', "holds: \"item.title.matches('(')\""),
        "rules[42].holds",
        "表达式在空行上无法求值：invalid regular expression",
    ),
    (
        ('holds: "!facts.refiled"', 'holds: "int(item.title) > 0"'),
        "rules[42].holds",
        "表达式在空行上无法求值",
    ),
    (
        ("when: \"item.direction == 'D11'\"", "when: \"item.directon == 'D11'\""),
        "rules[25].when",
        "是否想写 item.direction？",
    ),
    (
        ("见{facts.published_where}", "见{facts.publishd_where}"),
        "rules[21].says",
        "占位符 {facts.publishd_where} 没有对应的值，是否想写 facts.published_where？",
    ),
    (
        ("where: \"unit.kind in ['K3', 'K4'] && item", "where: \"unit.kin in ['K3', 'K4'] && item"),
        "tallies[3].where",
        "是否想写 unit.kind？",
    ),
    (
        ("severity: soft\n    text: 有关部门", "severity: hard\n    text: 有关部门"),
        "rules[9].severity",
        "用到计数的规则只能是 soft",
    ),
    # a printed row that names a field twice, or none
    (
        ("rows: [[company_name, uscc],", "rows: [[company_name, uscc, company_name],"),
        "forms[7].card.sections[1].printed.parts[0].rows[0][2]",
        "没有名为 company_name 的栏目，或已经印过",
    ),
    (
        ("- {rows: [[org_intro], [case_name_2]]}", "- {rows: [[org_intro]]}"),
        "forms[8].card.sections[1].printed.parts",
        "没有印出栏目 case_name_2",
    ),
]


# Told at the whole that is not in itself consistent, or at the second of two, not where the change was made.
ELSEWHERE = {
    "rules[3]": "  - id: R-COL-004",
    "rules[8]": "  - id: R-COL-009",
    "deadlines[1]": "  - id: DL-02",
    "forms[0].columns[5].header": "      - {field: F3.07,",
    "procedure.stages[8].id": "    - {id: not_selected,",
    "procedure.start": "  start:\n",
    "forms[8].card.sections[1].printed.parts": "            parts:\n              - {label: 单位信息",
}


@pytest.mark.parametrize(("change", "path", "message"), ONE, ids=[path for _, path, _ in ONE])
def test_one_mistake_is_told_alone_and_where_it_stands(
    change: tuple[str, str], path: str, message: str
) -> None:
    text, lines = broken(change)
    found = faults(text)
    assert [error.path for error in found] == [path]
    assert message in found[0].message
    expected = lines[0]
    if path in ELSEWHERE:
        expected = text[: text.index(ELSEWHERE[path])].count("\n") + 1
    assert found[0].line == expected


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("id: x\ntitle: a: b\n", 2, "此处不能再有冒号；含“: ”的文字须加引号"),
        ("id: x\nrules:\n\t- id: y\n", 3, "缩进只能用空格，不能用制表符"),
        ("id: x\nrules: [a, b\ntitle: c\n", 3, "括号没有配对，或缺少逗号"),
        ("a: *nobody\n", 1, "引用了没有定义的锚点"),
        ("- a\nb: 1\n", 2, "缩进与上文不一致"),
        ('id: "x\n', 2, "引号没有配对"),
        ("id: x\n---\nid: y\n", 2, "一个文件只能有一份内容"),
        ("", 1, "应为一份通知（键值对）"),
        ("- id: x\n", 1, "应为一份通知（键值对）"),
        ("只是一句话", 1, "应为一份通知（键值对）"),
    ],
)
def test_a_file_that_is_no_notice_at_all(text: str, line: int, message: str) -> None:
    (found,) = faults(text)
    assert found.line == line
    assert message in found.message


def test_a_file_in_another_encoding() -> None:
    with pytest.raises(NoticeBroken, match=r"某通知\.yaml 第2行：不是 UTF-8 文本"):
        load("id: x\ntitle: 服务".encode("gbk"), "某通知.yaml")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NoticeBroken, match=r"nowhere\.yaml 第1行：无法读取"):
        load(tmp_path / "nowhere.yaml")


def test_all_that_is_missing_is_told_at_once() -> None:
    missing = {error.path for error in faults("id: gz-some-notice\n")}
    assert missing == {
        "title",
        "issuer",
        "issued_on",
        "clause_name",
        "round",
        "forms",
        "allowed",
        "rules",
        "procedure",
    }


def test_what_is_missing_is_told_where_its_parent_begins() -> None:
    text = TEXT.replace("  - id: F5\n    annex: 附件5\n", "  - id: F5\n", 1)
    (found,) = faults(text)
    assert (found.path, found.message) == ("forms[2].annex", "缺少 annex")
    assert found.line == text[: text.index("  - id: F5\n")].count("\n") + 1


def test_a_value_of_many_lines_is_told_at_its_key() -> None:
    old = 'holds: "facts.june_activities >= least"'
    text, lines = broken((old, "holds: |\n      facts.june_activities\n      >= most"))
    (found,) = faults(text)
    assert (found.path, found.line) == ("rules[3].holds", lines[0])
    assert "没有 most 这个名字" in found.message


def test_mistakes_of_every_kind_are_told_together_in_the_order_of_their_lines() -> None:
    changes = [
        ("status: in_force", "statsu: in_force"),
        ("  - {code: D05,", "  - {code: D05, code: D06,"),
        ("rule: R-COL-025", "rule: R-COL-099"),
        ("type: period", "type: periode"),
        ("id: R-COL-005", "id: R-COL-5"),
        ('holds: "filer.registered"', 'holds: "filer.registred"'),
        ("judged_by: city", "judged_by: city\n    enforced_by: form"),
        ("to: selection,", "to: selecton,"),
        ("until: 2025-06-30", "until: 2025-05-30"),
    ]
    text, _ = broken(*changes)
    found = faults(text)
    assert [error.path for error in found] == [
        "statsu",
        "directions[4].code",
        "lists.service_domain.rule",
        "forms[0].columns[3].type",
        "rules[4].id",
        "rules[8]",
        "rules[13].holds",
        "procedure.stages[2].outcomes.accept.to",
        "deadlines[1].until",
    ]
    assert [error.line for error in found] == sorted(error.line for error in found)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            ("code: D02", "code: D01"),
            [
                ("directions[1].code", "D01 出现了两次"),
                ("lists.service_domain.values[1].direction", "没有方向 D02"),
            ],
        ),
        (
            ("name: products,", "name: activities,"),
            [
                ("tallies[4].name", "activities 出现了两次"),
                ("rules[10].holds", "没有 facts.products 这个名字"),
                ("rules[10].says", "占位符 {facts.products} 没有对应的值"),
            ],
        ),
        (
            ("id: correction\n", "id: formal_check\n"),
            [
                ("procedure.stages[2].outcomes.return.to", "没有阶段 correction"),
                ("procedure.stages[3].id", "阶段 formal_check 出现了两次"),
            ],
        ),
    ],
)
def test_two_of_one_name_leave_what_names_the_other_without_it(
    change: tuple[str, str], expected: list[tuple[str, str]]
) -> None:
    text, _ = broken(change)
    found = faults(text)
    assert [error.path for error in found] == [path for path, _ in expected]
    assert all(part in error.message for error, (_, part) in zip(found, expected, strict=True))


def test_a_fault_reads_as_one_line() -> None:
    text, lines = broken(("severity: info", "severity: inof"))
    with pytest.raises(NoticeBroken) as caught:
        load(text.encode(), "某通知.yaml")
    assert str(caught.value) == (
        f'某通知.yaml 第{lines[0]}行 rules[0].severity：应为 hard、soft、info；实为 "inof"，是否想写 info？'
    )


def test_the_same_file_is_always_told_the_same() -> None:
    text, _ = broken(
        ("severity: info", "severity: inof"), ("to: selection,", "to: x,"), ("code: D01", "code: X1")
    )
    assert faults(text) == faults(text)
