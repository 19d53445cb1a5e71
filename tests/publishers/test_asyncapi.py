"""The document of the bus is AsyncAPI to those who made that: their own parser finds no error in it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.goldens import PUBLISHED
from tests.publishers.node import node

DOCUMENT = PUBLISHED / "asyncapi.json"


def judged(file: Path) -> tuple[int, list[tuple[str, str]]]:
    """How many channels it has, and its errors by place."""
    done = node("asyncapi.mjs", file, timeout=100)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    return said["channels"], [(place, message) for severity, place, message in said["told"] if severity == 0]


def test_the_parser_finds_no_error() -> None:
    channels, errors = judged(DOCUMENT)
    assert errors == []
    assert channels == len(json.loads(DOCUMENT.read_bytes())["channels"])


def _no_title(made: dict[str, Any]) -> str:
    del made["info"]["title"]
    return "info"


def _no_parameter(made: dict[str, Any]) -> str:
    key, channel = next((k, c) for k, c in made["channels"].items() if c.get("parameters"))
    del channel["parameters"][next(iter(channel["parameters"]))]
    return f"channels/{key}/parameters"


def _no_such_message(made: dict[str, Any]) -> str:
    operation = next(iter(made["operations"].values()))
    operation["messages"][0]["$ref"] = "#/channels/nowhere/messages/Nothing"
    return "operations/"


@pytest.mark.parametrize("spoil", [_no_title, _no_parameter, _no_such_message])
def test_control_a_document_with_a_fault_is_seen(
    spoil: Callable[[dict[str, Any]], str], tmp_path: Path
) -> None:
    made = json.loads(DOCUMENT.read_bytes())
    where = spoil(made)
    bad = tmp_path / "asyncapi.json"
    bad.write_text(json.dumps(made))
    _, errors = judged(bad)
    assert any(place.startswith(where) for place, _ in errors), errors
