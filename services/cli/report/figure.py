"""A figure: its numbers as a table, what it says in sentences, and how Vega-Lite is to draw it.

Which numbers it has is in `funnel.py`, `districts.py` and `ahead.py`; making a picture of it in `draw.py`.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Spec = dict[str, Any]

WIDTH = 420
"""Pixels: what a telephone shows without making the letters smaller than 11 pixels, and half of a printed page."""
STEP = 42
"""Pixels from one bar to the next: a line of text above each."""
FAMILY = "Noto Sans SC"
FONTS = f"{FAMILY}, Noto Sans CJK SC, Source Han Sans SC, PingFang SC, Microsoft YaHei, SimHei, sans-serif"

# Of Okabe and Ito's palette, which the colour-blind tell apart; chosen and ordered so that greys do too: 41, 67, 86 %.
DARK, MIDDLE, LIGHT = "#0072B2", "#56B4E9", "#F0E442"
INK, FAINT = "#1A1A1A", "#D9D9D9"


@dataclass(frozen=True)
class Figure:
    """`name` is its file's; `said` tells to those who do not see it what it shows, every number included."""

    name: str
    title: str
    subtitle: tuple[str, ...]
    said: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | int, ...], ...]
    notes: tuple[str, ...]
    spec: Spec


def folded(text: str, letters: int = 34) -> tuple[str, ...]:
    """In lines that fit into a picture: Chinese may be broken anywhere."""
    return tuple(text[i : i + letters] for i in range(0, len(text), letters))


def beside(left: str, right: str) -> str:
    """The left text, cut where the right one would begin: the table has it whole."""

    def wide(text: str) -> float:
        """Pixels at 14 pixels a letter; a figure or Latin letter is hardly wider than half."""
        return sum(14 if unicodedata.east_asian_width(c) in "WFA" else 5 if c == "-" else 8 for c in text)

    room = WIDTH - wide(right) - 8
    if wide(left) <= room:
        return left
    while left and wide(left) + 14 > room:
        left = left[:-1]
    return left + "…"


def spec(title: str, subtitle: Sequence[str], parts: Sequence[Spec]) -> Spec:
    """Parts below each other, in one look."""
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "title": {"text": title, "subtitle": list(subtitle)},
        "vconcat": list(parts),
        "spacing": 14,
        "padding": 12,
        "background": "white",
        "config": {
            "font": FONTS,
            # `draw.py` says what the picture shows in one title and one description; a label for every bar besides
            # would be read out in English.
            "aria": False,
            "view": {"stroke": None},
            "title": {
                "anchor": "start",
                "frame": "group",
                "fontSize": 16,
                "fontWeight": "bold",
                "subtitleFontSize": 12,
                "subtitleColor": INK,
                "subtitlePadding": 6,
                "offset": 10,
                "color": INK,
            },
            "axis": {"labelFontSize": 12, "labelColor": INK, "domain": False, "tickColor": FAINT},
            "legend": {"labelFontSize": 13, "symbolSize": 140, "labelColor": INK, "title": None},
            "text": {"fontSize": 14, "color": INK},
        },
    }


def lines(values: Sequence[Mapping[str, Any]]) -> Spec:
    """The data of a part whose rows stand below each other, each with a line of text `says` above it."""
    return {
        "values": [{**v, "n": n, "says": beside(v["says"], v.get("more", ""))} for n, v in enumerate(values)]
    }


def row() -> Spec:
    return {"field": "n", "type": "ordinal", "axis": None, "scale": {"paddingInner": 0, "paddingOuter": 0}}


def words(field: str = "says", *, right: bool = False) -> Spec:
    """The text above a bar, from the left or to the right edge."""
    return {
        "mark": {"type": "text", "align": "right" if right else "left", "baseline": "middle", "yOffset": -9},
        "encoding": {
            "y": row(),
            "x": {"value": WIDTH if right else 0},
            "text": {"field": field, "type": "nominal"},
        },
    }


def colours(names: Mapping[str, str]) -> Spec:
    """By name, with a legend below."""
    return {
        "field": "share",
        "type": "nominal",
        "scale": {"domain": list(names), "range": list(names.values())},
        "legend": {"orient": "bottom", "direction": "horizontal", "columns": len(names)},
    }
