"""The release before this one, as a folder: what a rolling upgrade begins with.

What is done with it is in `test_upgrade.py` and `tests/unit/test_upgrade_rule.py`.
"""

import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]

RELEASE = "8110fe488412fcffab0640748d27ca6dccc565fe"
"""The last commit of the release before. The only place that names it: after a release, write that one's here."""


@cache
def absent() -> str | None:
    """Why there is no such commit here, as in a shallow clone or a folder without history; None when there is."""
    try:
        found = _git("cat-file", "-e", f"{RELEASE}^{{commit}}")
    except FileNotFoundError:
        return "no git here"
    return None if found.returncode == 0 else f"the history does not reach back to {RELEASE[:7]}"


def unpack(folder: Path) -> Path:
    """All of that release below a folder."""
    folder.mkdir()
    archive = _git("archive", "--format=tar", RELEASE)
    assert archive.returncode == 0, archive.stderr.decode()
    subprocess.run(
        ["tar", "--extract", "--file=-", "--directory", str(folder)], input=archive.stdout, check=True
    )
    return folder


def read(path: str) -> str:
    """A text file of that release."""
    return _git("show", f"{RELEASE}:{path}").stdout.decode()


def files(below: str) -> list[str]:
    """What that release has below a folder of the repository; nothing where the history is not there."""
    if absent():
        return []
    listed = _git("ls-tree", "-r", "--name-only", RELEASE, "--", below)
    return listed.stdout.decode().split()


def _git(*arguments: str) -> "subprocess.CompletedProcess[bytes]":
    # Whoever owns the folder: CI may run as somebody else.
    command = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True)
