"""The register of the specification's rules, how each is kept, and that the tests prove what is checked.

The tables of both sides stand beside what they try: expressions in `test_rules`, mechanisms in
`test_enforced`, some with workbooks, contracts and letters.
"""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from shared.notices import coverage
from shared.notices.coverage import BOTH, How, Kept, proven, register
from shared.notices.load import CompiledNotice, load, load_all
from shared.notices.model import Notice, Rule
from shared.notices.stages import Ground

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
COLLECTION = load(ROOT / "shared/notices/data/gz-collection-2025q1.yaml")


@cache
def packaged() -> dict[str, CompiledNotice]:
    return load_all()


@cache
def proofs() -> dict[str, frozenset[coverage.Side]]:
    return proven({str(f): f.read_text(encoding="utf-8") for f in sorted(TESTS.rglob("test_*.py"))})


# --- the register ------------------------------------------------------------------------------------

IDS = {
    "R-COL": [*range(1, 41)],
    "R-CLU": [*range(1, 19), *range(20, 34), *range(40, 53), *range(60, 69), *range(70, 81)],
    "R-STA": [
        *range(1, 12),
        *range(20, 26),
        *range(30, 38),
        *range(40, 46),
        *range(50, 55),
        *range(60, 67),
        *range(70, 81),
        *range(90, 95),
    ],
    "R-POL": [*range(1, 5), *range(10, 27), *range(30, 40)],
    "R-HUA": [*range(1, 8), *range(10, 28)],
    "R-ACT": [*range(1, 8)],
    "R-GEN": [*range(1, 15)],
}
COUNTS = {"R-COL": 40, "R-CLU": 65, "R-STA": 59, "R-POL": 31, "R-HUA": 25, "R-ACT": 7, "R-GEN": 14}
"""As §16 of the specification counts them: 241."""


def test_the_register_has_the_rules_of_the_specification_in_its_order() -> None:
    found = register()
    assert list(found) == [f"{prefix}-{n:03}" for prefix, numbers in IDS.items() for n in numbers]
    assert Counter(one.prefix for one in found.values()) == COUNTS
    assert len(found) == sum(COUNTS.values()) == 241


def test_severities_of_the_register_are_those_of_the_specification() -> None:
    found: dict[str, Counter[str | None]] = {}
    for one in register().values():
        found.setdefault(one.prefix, Counter())[one.severity] += 1
    assert found["R-COL"] == {"hard": 15, "soft": 11, "info": 14}
    assert found["R-CLU"] == {"hard": 31, "soft": 2, "info": 19, None: 13}
    assert found["R-STA"] == {"hard": 18, "info": 7, None: 34}
    assert found["R-GEN"] == {"hard": 12, "soft": 1, "info": 1}
    assert {p for p, c in found.items() if set(c) == {None}} == {"R-POL", "R-HUA", "R-ACT"}


DIFFERENT = {
    "R-COL-033a": "soft: the specification has the limit hard and the indicators soft in one rule",
    "R-STA-030a": "soft: an address alone does not prove in which district somebody is registered",
    "R-STA-034a": "soft: the register has the invariant hard; a date of our own only notes",
    "R-COL-035a": "附件10-1 as a whole: the name stands in three parts of it",
}
"""Rules to which a notice gives another severity or clause than the register, and why."""


def test_a_notice_gives_a_rule_the_severity_and_clause_of_the_register() -> None:
    known = register()
    wrong = []
    for compiled in packaged().values():
        for rule in compiled.notice.rules:
            one = known[coverage.base(rule.id)]
            if one.severity not in (None, rule.severity) or rule.clause not in one.clauses:
                wrong.append((rule.id, rule.severity, rule.clause))
    assert [w for w in wrong if w[0] not in DIFFERENT] == []
    assert DIFFERENT.keys() <= {id_ for id_, _, _ in wrong}


def test_every_rule_of_a_packaged_notice_is_in_the_register() -> None:
    assert coverage.unregistered(register(), [c.notice for c in packaged().values()]) == []


# --- how a rule is kept ------------------------------------------------------------------------------


def rule(id_: str, **more: Any) -> Rule:
    return Rule(**{"id": id_, "clause": "征集通知·三", "severity": "hard", "text": "规则", **more})


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"holds": "true", "says": "违反"}, "checked"),
        ({"enforced_by": "form"}, "checked"),
        ({"enforced_by": "identity"}, "checked"),
        ({"enforced_by": "deadline"}, "timed"),
        ({"enforced_by": "procedure"}, "procedural"),
        ({"enforced_by": "catalogue"}, "procedural"),
        ({"judged_by": "city"}, "manual"),
        ({"severity": "info"}, "information"),
        ({"enforced_by": "somehow"}, "open"),
    ],
)
def test_the_mechanism_says_how_a_rule_is_kept(more: dict[str, Any], expected: How) -> None:
    assert coverage.how(rule("R-COL-001", **more))[0] == expected


def test_every_mechanism_that_a_packaged_notice_names_is_known() -> None:
    named = {r.enforced_by for c in packaged().values() for r in c.notice.rules} - {None}
    assert named - coverage.MECHANISMS.keys() == set()


def with_rules(*rules: Rule, id_: str = "a-notice", grounds: tuple[Ground, ...] = ()) -> Notice:
    return COLLECTION.notice.model_copy(update={"id": id_, "rules": rules, "grounds": grounds})


def kept(*notices: Notice, **sides: frozenset[coverage.Side]) -> dict[str, list[Kept]]:
    found: dict[str, list[Kept]] = {}
    for one in coverage.cover(register(), notices, {k.replace("_", "-"): v for k, v in sides.items()}):
        found.setdefault(one.rule.id, []).append(one)
    return found


def test_a_rule_that_no_notice_has_is_open_and_nowhere() -> None:
    found = kept(with_rules())
    assert len(found) == 241
    assert {(one.how, one.notice, one.place) for lines in found.values() for one in lines} == {
        ("open", "", "")
    }


def test_a_rule_is_found_where_it_stands() -> None:
    ground = Ground(id="R-CLU-075", name="虚假申报", clause="指引 4.3.2")
    a = with_rules(rule("R-COL-001", severity="info"), rule("R-COL-009", judged_by="city"), grounds=(ground,))
    b = with_rules(rule("R-COL-009a", enforced_by="form"), id_="b-notice")
    found = kept(a, b)
    assert [k.text for k in found["R-COL-009"]] == [register()["R-COL-009"].text, "规则"]
    assert [(k.id, k.notice, k.place, k.how, k.by) for k in found["R-COL-009"]] == [
        ("R-COL-009", "a-notice", "rules[1]", "manual", "judged_by: city"),
        ("R-COL-009a", "b-notice", "rules[0]", "checked", "enforced_by: form"),
    ]
    assert [(k.place, k.how) for k in found["R-CLU-075"]] == [("grounds[0]", "procedural")]
    counted = coverage.counts([k for lines in found.values() for k in lines])
    assert counted["R-COL"] == {"checked": 1, "information": 1, "open": 38}
    assert sum(sum(ways.values()) for ways in counted.values()) == 241


def test_a_rule_beyond_the_specification_is_told_apart() -> None:
    notice = with_rules(rule("R-COL-041", enforced_by="form"), rule("R-COL-040", enforced_by="form"))
    assert coverage.unregistered(register(), [notice]) == [("a-notice", "R-COL-041")]
    assert "R-COL-041" not in kept(notice)


def test_only_what_is_checked_wants_both_sides() -> None:
    notice = with_rules(
        rule("R-COL-001", enforced_by="form"),
        rule("R-COL-002", enforced_by="form"),
        rule("R-COL-003", enforced_by="form"),
        rule("R-COL-004", judged_by="city"),
        rule("R-COL-005", enforced_by="deadline"),
    )
    found = kept(notice, R_COL_001=BOTH, R_COL_002=frozenset({"met"}))
    assert [id_ for id_, lines in found.items() if any(k.unproven for k in lines)] == [
        "R-COL-002",
        "R-COL-003",
    ]


# --- what the tests prove ----------------------------------------------------------------------------

HEAD = '@pytest.mark.parametrize(("rule", "case", "expected"), '


@pytest.mark.parametrize(
    ("source", "sides"),
    [
        (HEAD + '[("R-X", 1, "met"), ("R-X", 2, "broken")])\ndef test_a(): ...', "broken met"),
        (HEAD + '[("R-X", 1, "met"), ("R-Y", 2, "broken")])\ndef test_a(): ...', "met"),
        (HEAD + '[("R-X", 1, "not_applicable")])\ndef test_a(): ...', ""),
        ("T = [('R-X', 1, 'met')]\n" + HEAD + "T)\ndef test_a(): ...", "met"),
        ("T: list[object] = [('R-X', 1, 'broken')]\n" + HEAD + "T)\nasync def test_a(): ...", "broken"),
        ("@p.parametrize('rule, broken', [('R-X', True), ('R-X', False)])\ndef test_a(): ...", "broken met"),
        (HEAD + '[pytest.param("R-X", 1, "met", id="one")])\ndef test_a(): ...', "met"),
        # what does not run proves nothing
        ("T = [('R-X', 1, 'met'), ('R-X', 2, 'broken')]", ""),
        (HEAD + '[("R-X", 1, "met")])\ndef helper(): ...', ""),
        ("@pytest.mark.skip\n" + HEAD + '[("R-X", 1, "met")])\ndef test_a(): ...', ""),
        ("@pytest.mark.xfail(reason='x')\n" + HEAD + '[("R-X", 1, "met")])\ndef test_a(): ...', ""),
        (HEAD + '[pytest.param("R-X", 1, "met", marks=pytest.mark.skip)])\ndef test_a(): ...', ""),
        ("pytestmark = pytest.mark.skip\n" + HEAD + '[("R-X", 1, "met")])\ndef test_a(): ...', ""),
        ("pytestmark = [p.mark.a, p.mark.xfail()]\n" + HEAD + '[("R-X", 1, "met")])\ndef test_a(): ...', ""),
        (
            "@pytest.mark.skip\nclass TestA:\n    "
            + HEAD
            + '[("R-X", 1, "met")])\n    def test_a(self): ...',
            "",
        ),
        ("class TestA:\n    " + HEAD + '[("R-X", 1, "met")])\n    def test_a(self): ...', "met"),
        ("class Other:\n    " + HEAD + '[("R-X", 1, "met")])\n    def test_a(self): ...', ""),
        (HEAD + "[('R-X', 1, 'met')])\ndef test_a():\n    '''Why.'''\n    pytest.skip('later')", ""),
        ("def outer():\n    " + HEAD + '[("R-X", 1, "met")])\n    def test_a(): ...', ""),
        # nor does what is not written out
        (HEAD + '[("R-X", 1, side) for side in SIDES])\ndef test_a(): ...', ""),
        ("@p.parametrize('rule', ['R-X'])\ndef test_a(): ...", ""),
        ("@p.parametrize('rule, case', [('R-X', 'met')])\ndef test_a(): ...", ""),
    ],
)
def test_a_side_is_proven_by_the_row_of_a_table_that_a_test_runs_on(source: str, sides: str) -> None:
    assert " ".join(sorted(proven({"test_x.py": source}).get("R-X", ()))) == sides


def test_sides_are_gathered_from_all_files() -> None:
    one, two = (HEAD + f'[("R-X", 1, "{side}")])\ndef test_a(): ...' for side in ("met", "broken"))
    assert proven({"test_a.py": one, "test_b.py": two}) == {"R-X": BOTH}


def test_every_checked_rule_of_the_packaged_notices_is_proven_from_both_sides() -> None:
    lines = coverage.cover(register(), [c.notice for c in packaged().values()], proofs())
    assert [(k.id, k.notice, sorted(k.sides)) for k in lines if k.unproven] == []
    assert len([k for k in lines if k.how == "checked"]) > 20


# --- the command -------------------------------------------------------------------------------------


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """As a person runs it; without settings of this machine, and away from a running `yiqi up`."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("YIQI_")}
    return subprocess.run(
        [sys.executable, "-c", "from services.cli import main; main()", "notice", "coverage", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**environment, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        timeout=60,
    )


def test_the_command_lists_every_rule_and_is_content_with_our_tests(tmp_path: Path) -> None:
    done = run("--json", "--tests", str(TESTS), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["ok"]
    assert (told["unproven"], told["unregistered"]) == ([], [])
    assert {coverage.base(line["id"]) for line in told["rules"]} == set(register())
    assert {prefix: ways["total"] for prefix, ways in told["counts"].items()} == COUNTS
    quota = next(line for line in told["rules"] if line["id"] == "R-COL-010")
    assert quota == {
        "id": "R-COL-010",
        "severity": "soft",
        "clause": "征集通知·二·1",
        "text": "部门和区主管部门原则上每个方向不超过2个（款）",
        "required": True,
        "how": "checked",
        "notice": "gz-collection-2025q1",
        "place": "rules[9]",
        "by": "holds",
        "tested": ["broken", "met"],
    }


def test_the_command_fails_when_a_side_is_no_longer_tested(tmp_path: Path) -> None:
    shutil.copytree(TESTS / "unit", tmp_path / "tests")
    table = tmp_path / "tests" / "test_rules.py"
    lines = table.read_text(encoding="utf-8").splitlines(keepends=True)
    fewer = [one for one in lines if not ('("R-COL-026"' in one and '"broken"' in one)]
    assert len(fewer) == len(lines) - 1
    table.write_text("".join(fewer), encoding="utf-8")
    done = run(cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    place = list(COLLECTION.notice.by_rule).index("R-COL-026")
    assert f"R-COL-026（gz-collection-2025q1 rules[{place}]）缺少测试：反面" in done.stdout
    assert "R-COL-010（" not in done.stdout


def test_for_people_what_is_open_and_not_required_is_only_counted(tmp_path: Path) -> None:
    done = run("--tests", str(TESTS), cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "R-STA-003" in done.stdout
    assert "R-POL-010" not in done.stdout
    assert "241" in done.stdout


def test_without_tests_nothing_can_be_said(tmp_path: Path) -> None:
    done = run(cwd=tmp_path)
    assert done.returncode == 2
    assert "--tests" in done.stderr
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_a.py").write_text("def", encoding="utf-8")
    assert run(cwd=tmp_path).returncode == 2
