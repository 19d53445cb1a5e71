"""How much the chaos tests do, and the lines that they leave behind."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.oracle import Verdict

FULL = os.environ.get("YIQI_CHAOS") == "full"
LINE = "oracle"


@pytest.fixture(scope="session")
def full() -> bool:
    """All of it (`make chaos`), or the short form that is a part of every test run."""
    return FULL


@pytest.fixture
def oracle(record_property: Callable[[str, object], None]) -> Callable[[Verdict], Verdict]:
    """Tell what a test has seen: a line at the end of the run, also when the test then fails."""

    def tell(verdict: Verdict) -> Verdict:
        record_property(LINE, verdict.line)
        return verdict

    return tell


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """From the reports of the tests: they come back also from those that ran in another process (pytest-xdist)."""
    reports = [
        r for kind in ("passed", "failed") for r in terminalreporter.getreports(kind) if r.when == "call"
    ]
    lines = [
        line
        for r in sorted(reports, key=lambda r: r.nodeid)
        for key, line in r.user_properties
        if key == LINE
    ]
    if not lines:
        return
    terminalreporter.section("oracle")
    for line in lines:
        terminalreporter.write_line(str(line))
    if FULL:
        folder = Path(__file__).parents[2] / "var"
        folder.mkdir(exist_ok=True)
        (folder / "oracle.txt").write_text("\n".join(map(str, lines)) + "\n")
