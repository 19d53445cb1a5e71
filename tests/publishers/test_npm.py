"""The npm group: installed as its lock says, from any registry; and a test that needs it says why it is skipped."""

import json
from pathlib import Path

import pytest

from tests.publishers import node

LOCK = json.loads((node.HERE / "package-lock.json").read_text())


def test_the_lock_pins_hashes_and_names_no_host() -> None:
    """As the locks of Python: it must install the same from any mirror."""
    packages = {name: package for name, package in LOCK["packages"].items() if name}
    assert [name for name, package in packages.items() if "resolved" in package] == []
    assert [name for name, package in packages.items() if "sha512-" not in package["integrity"]] == []


def test_the_lock_is_of_what_is_declared_and_that_is_exact() -> None:
    declared = json.loads((node.HERE / "package.json").read_text())["dependencies"]
    assert LOCK["packages"][""]["dependencies"] == declared
    assert {name: LOCK["packages"][f"node_modules/{name}"]["version"] for name in declared} == declared


def test_every_package_can_be_loaded() -> None:
    names = json.loads((node.HERE / "package.json").read_text())["dependencies"]
    done = node.node("load.mjs", *names)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == list(names)


def test_without_node_a_test_says_why_it_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(pytest.skip.Exception, match="needs node 20 or newer with npm"):
        node.node("load.mjs")


def test_without_the_packages_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if "PATH" in node.missing():
        pytest.skip(node.missing())
    monkeypatch.setattr(node, "INSTALLED", tmp_path / "none")
    with pytest.raises(pytest.skip.Exception, match="python3 dev"):
        node.node("load.mjs")
