"""Rules that a mechanism keeps and no expression: forms, packages and identity, from both sides.

Workbooks, contracts and letters try their own; which rule wants such a table, `yiqi notice coverage` says.
"""

from datetime import date
from pathlib import Path

import pytest

from services.intake.parse import admit
from shared.contracts.submission import Filer
from shared.notices.directory import Directory
from shared.notices.load import load
from tests.items import APPLICATION, CLUSTER, COURSE, LECTURE, LOAN, RECOMMENDED

COMPILED = load(Path(__file__).parents[2] / "shared/notices/data/gz-collection-2025q1.yaml")
NOTICE = COMPILED.notice
DIRECTORY = Directory.load()

ROWS = {
    "F3": LECTURE,
    "F5": LOAN,
    "F7": COURSE,
    "F8": CLUSTER,
    "F10-1": APPLICATION,
    "F10-2": RECOMMENDED,
}

# The column `named` is the finding that is told: it names the rule, or the field or form that stands for it.
FORMS = [
    # 征集通知·一(一): the direction is that of the form, or of the domain, which may not be left open
    ("R-COL-002", "F3", {}, "F3.02", "met"),
    ("R-COL-002", "F3", {"service_domain": ""}, "F3.02", "broken"),
    # 征集通知·三: a product does not fit into the annex of activities, nor the other way round
    ("R-COL-017", "F3", {}, "F3", "met"),
    ("R-COL-017", "F3", LOAN, "F3", "broken"),
    ("R-COL-017", "F5", {}, "F5", "met"),
    ("R-COL-017", "F5", LECTURE, "F5", "broken"),
    # the lists of 附件7, 附件3 and 附件8: one of theirs, or 其他 with what it is
    ("R-COL-024", "F7", {"course_domain": "权益保护"}, "R-COL-024", "met"),
    ("R-COL-024", "F7", {"course_domain": "其他（天文）"}, "R-COL-024", "met"),
    ("R-COL-024", "F7", {"course_domain": "天文"}, "R-COL-024", "broken"),
    ("R-COL-025", "F3", {"service_domain": "引才育才"}, "R-COL-025", "met"),
    ("R-COL-025", "F3", {"service_domain": "其他（知识产权）"}, "R-COL-025", "met"),
    ("R-COL-025", "F3", {"service_domain": "知识产权"}, "R-COL-025", "broken"),
    ("R-COL-025", "F3", {"service_domain": "其他"}, "R-COL-025", "broken"),
    ("R-COL-027", "F8", {"cluster_domain": "激发集群创新活力"}, "R-COL-027", "met"),
    ("R-COL-027", "F8", {"cluster_domain": "美化环境"}, "R-COL-027", "broken"),
    # 附件10-1: the stated limits, inclusive (T-COL-10), and a credit code of 18 characters
    ("R-COL-030", "F10-1", {"org_intro": "字" * 500}, "R-COL-030", "met"),
    ("R-COL-030", "F10-1", {"org_intro": "字" * 501}, "R-COL-030", "broken"),
    ("R-COL-031", "F10-1", {"pain_points": "字" * 300}, "R-COL-031", "met"),
    ("R-COL-031", "F10-1", {"pain_points": "字" * 301}, "R-COL-031", "broken"),
    ("R-COL-032", "F10-1", {"practices": "字" * 1000}, "R-COL-032", "met"),
    ("R-COL-032", "F10-1", {"practices": "字" * 1001}, "R-COL-032", "broken"),
    ("R-COL-033", "F10-1", {"results": "字" * 300}, "R-COL-033", "met"),
    ("R-COL-033", "F10-1", {"results": "字" * 301}, "R-COL-033", "broken"),
    ("R-COL-034", "F10-1", {"lessons": "字" * 500}, "R-COL-034", "met"),
    ("R-COL-034", "F10-1", {"lessons": "字" * 501}, "R-COL-034", "broken"),
    ("R-COL-037", "F10-1", {}, "R-COL-037", "met"),
    ("R-COL-037", "F10-1", {"uscc": "9111000060003734L"}, "R-COL-037", "broken"),  # T-ID-05
    # 附件10-2: who recommends, and whom to ask
    ("R-COL-038", "F10-2", {}, "F10-2.01", "met"),
    ("R-COL-038", "F10-2", {"recommender": ""}, "F10-2.01", "broken"),
    ("R-COL-038", "F10-2", {"contact_name": ""}, "F10-2.06", "broken"),
    ("R-COL-038", "F10-2", {"contact_phone": ""}, "F10-2.07", "broken"),
    # GB 32100-2015: the alphabet and the check character (T-ID-01…04)
    ("R-GEN-001", "F10-1", {}, "R-GEN-001", "met"),
    ("R-GEN-001", "F10-1", {"uscc": "N2440106MF0123456X"}, "R-GEN-001", "met"),
    ("R-GEN-001", "F10-1", {"uscc": "91110000600037341K"}, "R-GEN-001", "broken"),
    ("R-GEN-001", "F10-1", {"uscc": "9111000060003734IL"}, "R-GEN-001", "broken"),
    # ours: whatever is given as a number or an address is one
    ("R-GEN-003", "F5", {"contact": "张三 83522270-802、13800138000"}, "R-GEN-003", "met"),
    ("R-GEN-003", "F5", {"contact": "张三 1380013800"}, "R-GEN-003", "broken"),
    ("R-GEN-003", "F10-2", {"contact_phone": "8372661"}, "R-GEN-003", "broken"),
    ("R-GEN-004", "F5", {"contact": "张三 83726619 a@b.cn"}, "R-GEN-004", "met"),
    ("R-GEN-004", "F5", {"contact": "张三 83726619 a@b"}, "R-GEN-004", "broken"),
]


@pytest.mark.parametrize(("rule", "form", "row", "named", "expected"), FORMS)
def test_a_rule_of_the_form(rule: str, form: str, row: dict[str, str], named: str, expected: str) -> None:
    judged = COMPILED.forms[form].judge({**ROWS[form], **row})
    assert (named in {f.rule for f in judged.findings}) is (expected == "broken")
    assert NOTICE.by_rule[rule].enforced_by == "form"


@pytest.mark.parametrize(
    ("rule", "scan", "editable", "expected"),
    [
        ("R-GEN-006", True, True, "met"),
        ("R-GEN-006", False, True, "broken"),
        ("R-GEN-006", True, False, "broken"),
    ],
)
def test_what_is_sealed_comes_as_a_scan_and_as_an_editable_file(
    rule: str, scan: bool, editable: bool, expected: str
) -> None:
    """R-COL-018 is its finding: what would be missing in the store is refused before it is kept."""
    filer = {"filer.kind": "K6", "filer.code": "k6-1", "filer.name": "某机构", "filer.registered": False}
    filed = {"filed.forms": ["F5"], "filed.titles": {"F5": ["某贷"]}}
    known = {**filed, "facts.has_scan": scan, "facts.has_editable": editable}
    found = COMPILED.rules.package_findings(filer, known, date(2025, 3, 1), tallied=False)
    assert [f.rule for f in found if f.severity == "hard"] == ([] if expected == "met" else ["R-COL-018"])
    assert NOTICE.by_rule[rule].enforced_by == "package"


@pytest.mark.parametrize(
    ("rule", "code", "name", "publisher", "expected"),
    [
        ("R-GEN-011", "440106", "天河区商务金融局", "440106", "met"),
        ("R-GEN-011", "440106", "天河区商务金融局", "440111", "broken"),
        ("R-GEN-011", "440111", "天河区商务金融局", "440111", "broken"),
        ("R-GEN-011", "440199", "某区", "440199", "broken"),
    ],
)
def test_nobody_files_for_another_unit(
    rule: str, code: str, name: str, publisher: str, expected: str
) -> None:
    _, found = admit(COMPILED, DIRECTORY, Filer(code=code, kind="K2", name=name), None, publisher)
    assert {f.rule for f in found} == (set() if expected == "met" else {rule})
