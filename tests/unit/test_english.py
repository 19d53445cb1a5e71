"""Every fault and problem that the system can say has an English sentence; the sources are read for what they say."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from shared.contracts import registry
from shared.contracts.english import FAULTS, PROBLEMS, in_english, sentence
from shared.contracts.problem import SAYINGS, faults, problem
from shared.contracts.types import Finding
from shared.notices.load import NoticeBroken, load, load_all
from tests.unit.test_contracts import example
from tests.unit.test_rules import TODAY, Case, counted

ROOT = Path(__file__).parents[2]
MODULES = [
    path
    for folder in ("shared", "services/intake", "services/review", "services/notify", "services/export")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "migrations" not in path.parts and path.name not in ("english.py", "card.py")  # which prints a card
]

CODES_IN = {
    "fault": (0, 1), "finding": (1,), "tell": (2,), "Unusable": (0,), "_need": (0,), "_find": (0,), "_fault": (1,),
    "_identity": (0,), "_say": (2,), "_stranger": (1,), "_ours": (0,), "PydanticCustomError": (0,),
}  # fmt: skip
"""The functions that make a fault, and which of their arguments may be its code (that of two, which has a sentence)."""
PREFIXES = {"_identity": "identity.", "PydanticCustomError": "schema."}
FAMILIES = {code.split(".")[0] for code in FAULTS if "." in code and not code.startswith("R-")}
NO_CODES = {
    *(e.name for e in registry.EVENTS),
    "case.frozen",  # of a problem, which has a title
    "notice.quota_mode",  # what expressions know
    "notice.yaml",
    "file.chunk",  # an operation of the published document
}
NOT_ITS_OWN = {
    "R-COL-002",
    "R-COL-017",
    "R-COL-018",
    "R-COL-040",
    "R-GEN-001",
    "R-GEN-011",
    "R-GEN-012",
    "ST-COL-2",
}
"""Rules that a fault with a code of its own belongs to."""


def literal(node: ast.expr) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def unspoken(path: Path) -> Iterator[str]:
    """The codes in a module that have no sentence of their own."""
    for node in ast.walk(ast.parse(path.read_text())):
        if (said := literal(node)) is not None:  # type: ignore[arg-type]  # what is no expression is no literal
            dotted = re.fullmatch(r"([a-z]+)\.[a-z_]+", said)
            if dotted and dotted[1] in FAMILIES and said not in NO_CODES and said not in FAULTS:
                yield said
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        if name in CODES_IN:
            given = [literal(node.args[n]) for n in CODES_IN[name] if n < len(node.args)]
            codes = [PREFIXES.get(name, "") + code for code in given if code is not None]
            codes = [c for c in codes if re.fullmatch(r"[A-Za-z0-9_.-]+", c)]
            # A fault of the contract's own types has the prefix that `faults` gives it.
            known = FAULTS.keys() | {c.removeprefix("schema.") for c in FAULTS if path.name == "scalars.py"}
            if codes and not known & set(codes) and set(codes) - NOT_ITS_OWN:
                yield codes[-1]
        if name in ("Finding", "problem"):
            for keyword in node.keywords:
                if keyword.arg == "code" and (code := literal(keyword.value)) and code not in FAULTS:
                    yield code
        if name == "problem" and len(node.args) > 1:
            title = literal(node.args[1])
            if title not in PROBLEMS:
                yield f"problem {literal(node.args[0])}: {title}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_code_and_every_title_has_english(path: Path) -> None:
    assert sorted(set(unspoken(path))) == []


def test_a_code_without_english_would_be_seen(tmp_path: Path) -> None:
    """The negative control."""
    (tmp_path / "x.py").write_text(
        'fault("R-GEN-001", "brand.new", "x", "#")\nraise Unusable("workbook.strange", "x")\n'
        '_need("nothing", "x", "#")\n_identity("shape", "x", "#")\nFinding(rule="x", code="y")\n'
        'problem("z", "没有英文", "x")\nraise fault("colour", "颜色")\nself._find("late", "soft", "x")\n'
        'code = "scan.upside_down"\nname = "case.opened"\n'
    )
    assert sorted(set(unspoken(tmp_path / "x.py"))) == [
        "brand.new", "colour", "identity.shape", "nothing", "problem z: 没有英文", "scan.upside_down",
        "workbook.strange", "y",
    ]  # fmt: skip


def test_enough_is_seen() -> None:
    """The sources have what the table is for: a scan that finds nothing would find nothing wrong."""
    everything = "\n".join(path.read_text() for path in MODULES)
    made = {f"identity.{c}" for c in ("code", "unknown", "kind", "name")} | {
        f"conflict.{c}" for c in ("employer", "district", "declared")
    }
    made |= {f"{a}.{b}" for a in ("case", "report") for b in ("unknown", "ambiguous")}
    of_pydantic = {code for code in FAULTS if code.startswith("schema.")}
    unused = [c for c in FAULTS if f'"{c}"' not in everything and c not in made | of_pydantic]
    assert unused == []
    assert [t for t in PROBLEMS if f'"{t}"' not in everything] == []


def test_what_pydantic_finds_is_told_in_english() -> None:
    assert {f"schema.{kind}" for kind in SAYINGS} <= {*FAULTS, "schema.decimal_parsing"}
    document = json.loads(example(registry.DECISION_MADE))
    document["data"] |= {"outcome": "x" * 33, "reason": "", "officr": 1, "version": "two"}
    document["specversion"] = "2"
    with pytest.raises(ValidationError) as refused:
        registry.DECISION_MADE.envelope.model_validate_json(json.dumps(document), strict=True)
    assert {f.pointer: f.detail_en for f in faults(refused.value, document)} == {
        "#/specversion": "Must be '1.0'.",
        "#/data/outcome": "At most 32 characters or items.",
        "#/data/reason": "The text must not be empty.",
        "#/data/officr": "There is no such field; check the spelling.",
        "#/data/version": "Must be an integer.",
    }


def test_a_rule_is_named_and_not_translated() -> None:
    finding = Finding(
        rule="R-COL-010", code="R-COL-010", severity="soft", clause="征集通知·二·1", detail="超过2个"
    )
    assert sentence(finding) == "Rule R-COL-010 of the notice is not met (clause 征集通知·二·1)."
    known = finding.model_copy(update={"detail_en": "The quota is used up."})
    assert [f.detail_en for f in in_english([finding, known])] == [sentence(finding), "The quota is used up."]
    strange = finding.model_copy(update={"code": "of_a_later_release"})
    assert sentence(strange) == "See the Chinese sentence: of_a_later_release, clause 征集通知·二·1."


def test_the_notices_own_english_is_told() -> None:
    """With the same figures; a name that no expression knows is an error of the notice."""
    source = (ROOT / "shared/notices/data/gz-collection-2025q1.yaml").read_text()
    before = "    waiver: R-COL-013\n\n  - id: R-COL-011\n"
    assert source.count(before) == 1
    english = '    says_en: "{facts.direction_items} items; no more than {limit} a direction."\n'
    book = load(source.replace(before, english + before).encode()).rules
    case = Case("K1", facts=counted(direction_items=3))
    told = {f.rule: f.detail_en for f in book.findings("F3", case.known(book), TODAY, tallied=True)}
    assert told["R-COL-010"] == "3 items; no more than 2 a direction."
    plain = load(source.encode()).rules.findings("F3", case.known(), TODAY, tallied=True)
    assert {f.rule: f.detail_en for f in plain}["R-COL-010"] is None
    with pytest.raises(NoticeBroken, match="says_en"):
        load(source.replace(before, english.replace("limit", "limits") + before).encode())


def test_every_rule_of_every_notice_has_a_sentence() -> None:
    for compiled in load_all().values():
        for rule in compiled.notice.rules:
            told = sentence(
                Finding(rule=rule.id, code=rule.id, severity=rule.severity, clause=rule.clause, detail="x")
            )
            assert rule.id in told or rule.id in FAULTS


def test_a_problem_has_both_languages() -> None:
    one = Finding(rule="x", code="limit", severity="hard", clause="x", detail="过长")
    told = problem("refused", "不予受理", "共2处问题", [one, one])
    assert (told.title_en, told.detail_en) == ("Not accepted", "2 faults, see errors.")
    assert {f.detail_en for f in told.errors} == {FAULTS["limit"]}
    exact = problem("conflict", "同一 id 的事件内容不同", "请为新的内容使用新的 id", status=409)
    assert exact.detail_en == "Use a new id for new content; a retry must be byte for byte the same."
    assert problem("x", "从未有过", "x").title_en is None
