"""Faults that intake itself finds, as opposed to those of forms and rules: their shape, and whose clause they quote.

What is at fault is not decided here.
"""

from collections.abc import Iterable

from shared.contracts.types import Finding
from shared.notices.model import Notice

CLAUSE = "接口契约"
OURS = "系统约定"
"""The clause of what holds in every notice, whichever document it is."""


def fault(rule: str, code: str, detail: str, pointer: str, clause: str = CLAUSE) -> Finding:
    return Finding(rule=rule, code=code, severity="hard", clause=clause, detail=detail, pointer=pointer)


def in_words_of(notice: Notice, found: Iterable[Finding]) -> list[Finding]:
    """Faults that every notice knows are worded once, with the rule of the collection that asks for the same.

    Where the notice has no such rule, nobody is quoted a document that does not apply to him: the rule is then
    the kind of the fault (`form` of `form.unknown`), and the clause ours.
    """
    return [f if _applies(notice, f.rule) else _generic(f) for f in found]


def _applies(notice: Notice, rule: str) -> bool:
    # What is no rule of a document (a field, a stage of the contract, R-GEN) is nobody's in particular.
    if not rule.startswith(("R-", "ST-")) or rule.startswith("R-GEN-"):
        return True
    if rule.startswith("ST-"):
        return rule in {stage.ref for stage in notice.procedure.stages}
    return rule in notice.by_rule


def _generic(finding: Finding) -> Finding:
    kind = finding.code.split(".")[0]
    return finding.model_copy(update={"rule": kind, "clause": OURS})
