"""How much the chaos tests do, and the lines that they leave behind."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.oracle import Verdict

FULL = os.environ.get("YIQI_CHAOS") == "full"
LINES = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[LINES] = []


@pytest.fixture(scope="session")
def full() -> bool:
    """All of it (`make chaos`), or the short form that is a part of every test run."""
    return FULL


@pytest.fixture
def oracle(pytestconfig: pytest.Config) -> Callable[[Verdict], Verdict]:
    """Tell what a test has seen: a line at the end of the run, also when the test then fails."""

    def tell(verdict: Verdict) -> Verdict:
        pytestconfig.stash[LINES].append(verdict.line)
        return verdict

    return tell


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if not (lines := config.stash[LINES]):
        return
    terminalreporter.section("oracle")
    for line in lines:
        terminalreporter.write_line(line)
    if FULL:
        folder = Path(__file__).parents[2] / "var"
        folder.mkdir(exist_ok=True)
        (folder / "oracle.txt").write_text("\n".join(lines) + "\n")
