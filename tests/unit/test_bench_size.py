"""The sizing tables follow from the figures, and the pages for operators have a place for them."""

import re
from pathlib import Path

import pytest

from shared.runtime.streams import BUCKET
from tests.bench import sizing
from tests.bench.sizing import DATABASE, HELD, PAGES, Sizes, Stored

SIZES = Sizes(
    1000,
    100,
    {DATABASE: Stored(10_000), **{name: Stored(1_000, 2) for name in HELD}, BUCKET: Stored()},
    {DATABASE: Stored(5_000), **{name: Stored(1_500, 3) for name in HELD}, BUCKET: Stored(1_234_567)},
    {"intake": (90.4, 96.6)},
    {"nats-server": 40},
)


def rows(text: str) -> dict[str, list[str]]:
    """Cells by the first one."""
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line]
    return {first: rest for first, *rest in cells}


def test_the_figures_stand_where_they_belong() -> None:
    told = rows(sizing.written(SIZES, "en"))
    assert told["PostgreSQL (tables and indexes)"] == ["10.0 kB", "5.0 kB", "–"]
    assert told["stream SME_EVT, each copy"] == ["2.0 messages, 1.0 kB", "3.0 messages, 1.5 kB", "500 B"]
    assert told["bucket (all versions of catalogues), each copy"] == ["0 B", "1.2 MB", "–"]
    assert (told["intake"], told["nats-server"]) == (["90 MB", "97 MB", ""], ["", "40 MB", ""])


def test_what_is_extrapolated_is_linear() -> None:
    told = rows(sizing.written(SIZES, "en"))
    _, database, bus, fullest, years, _ = told["a million a year"]
    assert database == "15.0 GB"
    # Three streams that forget, and the one that does not.
    assert bus == f"{(3 * 400 / 365 + 1) * 2.5:.1f} GB"
    assert fullest == f"SME_OUT {400 / 365 * 2.5e9 / 2 / 1024**3:.0%}"
    assert years == f"{2 * 1024**3 / 2.5e9:.0f} years"
    assert told["a provincial capital, all notices"][1] == "3.0 GB"


def test_both_languages_have_the_same_figures() -> None:
    def figures(language: str) -> list[str]:
        return re.findall(r"[\d.]+ [kMG]?B", sizing.written(SIZES, language))

    assert figures("zh") == figures("en")
    assert len(figures("en")) > 20


@pytest.fixture
def pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    made = {}
    for language, page in PAGES.items():
        made[language] = tmp_path / page.name
        made[language].write_text(page.read_text())
    monkeypatch.setattr(sizing, "PAGES", made)
    return made


def test_the_pages_have_a_place_for_them(pages: dict[str, Path]) -> None:
    sizing.write(SIZES)
    first = {language: page.read_text() for language, page in pages.items()}
    for language, text in first.items():
        assert sizing.written(SIZES, language) in text
    sizing.write(SIZES)
    assert {language: page.read_text() for language, page in pages.items()} == first


def test_a_page_without_a_place_is_told(pages: dict[str, Path]) -> None:
    pages["en"].write_text("nothing")
    with pytest.raises(SystemExit, match="no place"):
        sizing.write(SIZES)
