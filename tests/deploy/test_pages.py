"""What the pages for operators tell to type exists, and both languages say the same.

What the commands do is tested where they are.
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import dev
from services import cli
from shared.runtime.settings import Settings

ROOT = Path(dev.__file__).parent
PAGES = sorted([*(ROOT / "deploy").rglob("*.md"), ROOT / "README.md", ROOT / "README.zh-CN.md"], key=str)
SAID_BY = sorted((ROOT / "services" / "cli" / "doctor").glob("*.py"))
CHINESE, ENGLISH = ROOT / "deploy" / "README.md", ROOT / "deploy" / "README.en.md"

COMMAND = re.compile(r"(?<![\w/.-])(?<!-n )yiqi (?=[a-z])")
END = re.compile(r"[`\"\n#|&;；，。、）（》]|：| → |\\n|  ")


def typed(text: str) -> Iterator[list[str]]:
    """The words of every `yiqi …` in a text: command, arguments, options."""
    for found in COMMAND.finditer(text):
        line = END.split(text[found.end() :], maxsplit=1)[0]
        yield shlex.split(line.replace("'", "").replace("<", "").replace(">", ""))


def unknown(words: list[str]) -> str:
    """What of it the command line does not have; empty when all is there."""
    command: Any = typer.main.get_command(cli.app)
    names = list(words)
    while hasattr(command, "commands"):
        if not names or names[0] not in command.commands:
            # `yiqi dead …` names a group.
            return "" if not names or names[0] in ("…", "|") else names[0]
        command = command.commands[names.pop(0)]
    known = {opt for param in command.params for opt in (*param.opts, *param.secondary_opts)} | {"--help"}
    options = (word.partition("=")[0] for word in names if word.startswith("--"))
    return next((option for option in options if option not in known), "")


@pytest.mark.parametrize("page", [*PAGES, *SAID_BY], ids=lambda p: str(p.relative_to(ROOT)))
def test_every_command_that_is_told_exists(page: Path) -> None:
    assert [" ".join(words) for words in typed(page.read_text()) if unknown(words)] == []


def test_commands_are_found_and_a_wrong_one_is_told() -> None:
    told = list(
        typed("`yiqi ops doctor --json`, `yiqi ops heal`; yiqi dead list；yiqi mail list --status x\n")
    )
    assert [unknown(words) for words in told] == ["", "heal", "", "--status"]
    assert len([*typed(CHINESE.read_text())]) > 25


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_make_target_and_variable_that_is_told_exists(page: Path) -> None:
    text = page.read_text()
    targets = {f.__name__.replace("_", "-") for f in dev.COMMANDS} | {"help"}
    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", text, re.MULTILINE)) - targets == set()
    known = {f"YIQI_{name.upper()}" for name in Settings.model_fields} | {"YIQI_CHAOS"}
    assert {v for v in re.findall(r"YIQI_[A-Z_]*[A-Z]", text) if v not in known} == set()


def links(page: Path) -> Iterator[str]:
    yield from re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text())


@pytest.mark.parametrize("page", [CHINESE, ENGLISH], ids=lambda p: p.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    text = page.read_text()
    missing = [link for link in links(page) if not (page.parent / link).exists()]
    assert missing == []
    headings = {h.strip().lower().replace(" ", "-") for h in re.findall(r"^## (.+)$", text, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= headings


def shape(page: Path) -> list[tuple[str, int]]:
    """Of every chapter how many lists, tables' rows and commands it has."""
    found = []
    for chapter in re.split(r"^## ", page.read_text(), flags=re.MULTILINE)[1:]:
        lines = chapter.splitlines()
        rows = sum(line.strip().startswith("|") for line in lines)
        items = sum(bool(re.match(r"\s*(?:-|\d\.) ", line)) for line in lines)
        found.append((f"{rows} rows", items))
    return found


def test_both_languages_have_the_same_chapters() -> None:
    assert shape(CHINESE) == shape(ENGLISH)


def commands(page: Path) -> list[str]:
    """What is in code blocks, without what is only explained and what stands for something."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)
    lines = (line.split("  #")[0].split("   #")[0].strip() for block in blocks for line in block.splitlines())
    return [re.sub(r"清单校验值|CHECKSUM", "…", line) for line in lines if line]


def test_both_languages_tell_the_same_commands() -> None:
    assert commands(CHINESE) == commands(ENGLISH)
