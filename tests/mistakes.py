"""What a notice's file says of one mistake that is made in it."""

from pathlib import Path

import pytest

from shared.notices.load import NoticeBroken, load


def told(file: Path, old: str, new: str) -> list[tuple[str, str]]:
    """(place, sentence) of everything that is told when the first `old` is `new`."""
    text = file.read_text(encoding="utf-8")
    assert old in text
    with pytest.raises(NoticeBroken) as caught:
        load(text.replace(old, new, 1).encode(), "试验.yaml")
    return [(fault.path, fault.message) for fault in caught.value.errors]
