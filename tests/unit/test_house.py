"""The repository's own promises: installable anywhere, and one list of commands."""

import re
import tomllib
from pathlib import Path

import pytest

import dev
from shared.notices.load import load_all
from shared.notices.procedure import draw

ROOT = Path(dev.__file__).parent


def pins(lock: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==([^\s;]+)", (ROOT / lock).read_text(), re.MULTILINE))


@pytest.mark.parametrize("lock", dev.LOCKS)
def test_a_lock_file_pins_hashes_and_names_no_host(lock: str) -> None:
    text = (ROOT / lock).read_text()
    requirements = re.split(r"\n(?=\S)", text.strip())
    assert [r for r in requirements if not re.match(r"[a-z0-9-]+==\S+ .*--hash=sha256:", r, re.DOTALL)] == []
    assert "://" not in text


def test_the_locks_agree_and_cover_what_the_project_declares() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    runtime, everything = pins(dev.RUNTIME_LOCK), pins(dev.DEV_LOCK)
    assert runtime.items() <= everything.items()
    declared = project["project"]["dependencies"]
    extras = project["project"]["optional-dependencies"].values()
    extra = sum(extras, project["dependency-groups"]["dev"])
    for requirements, lock in ((declared, runtime), (declared + extra, everything)):
        names = {re.split(r"[\[<>=!~; ]", r)[0].lower().replace(".", "-") for r in requirements}
        assert names - set(lock) == set()


def test_make_and_dev_py_offer_the_same_commands() -> None:
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert targets is not None
    # `lock` needs a decision each time it runs; it has no place beside the everyday targets.
    offered = {c.__name__.replace("_", "-") for c in dev.COMMANDS}
    assert set(targets[1].split()) == {"help", *offered} - {"lock"}


@pytest.mark.parametrize("command", ["make test", "make check", "make check-deploy"])
def test_ci_runs_from_anywhere(command: str) -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert re.search(rf"^{command}$", script.read_text(), re.MULTILINE)


@pytest.mark.parametrize("notice", ["gz-stations-2019", "gz-clusters"])
def test_the_readme_draws_the_procedure_as_it_is(notice: str) -> None:
    assert f"```mermaid\n{draw(load_all()[notice].notice)}```" in (ROOT / "README.md").read_text()


def test_the_chinese_readme_names_letters_as_their_subjects_do() -> None:
    """A district officer looks a mail up by the word in its brackets."""
    named = set(re.findall("〔(.+?)〕", (ROOT / "README.zh-CN.md").read_text()))
    letters = (ROOT / "services/notify/letters").glob("*/subject.txt")
    subjects = "".join(path.read_text() for path in letters)
    assert [word for word in named if word not in subjects] == []
