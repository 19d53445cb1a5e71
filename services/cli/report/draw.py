"""A figure as SVG or PNG. The libraries for it are an extra, so they are imported here and only when a picture is made.

What is drawn is in the figure.
"""

import base64
import io
import re
from functools import cache
from html import escape
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from services.cli.common import UNUSABLE, fail
from services.cli.report.figure import FAMILY, Figure

SCALE = 3
"""Pixels of a PNG for one of the figure: about 300 dots per inch at the size of half a page."""
MISSING = "画图需要附加的软件包：pip install 'yiqi[pictures]'（只看表格不需要，去掉 --out 即可）"


def svg(figure: Figure, *, fonts: bool = True) -> str:
    """With a title and a description for those who hear it, and the letters that it needs; without `fonts` whoever
    takes it into a page brings them."""
    drawn = _converter().vegalite_to_svg(figure.spec)
    ids = f"{figure.name}-title", f"{figure.name}-said"
    opening = f'role="img" aria-labelledby="{ids[0]} {ids[1]}" lang="zh-CN"'
    told = (
        f'<title id="{ids[0]}">{escape(figure.title)}：{escape("".join(figure.subtitle))}</title>'
        f'<desc id="{ids[1]}">{escape(figure.said)}</desc>'
    )
    style = f"<style>{face(text(drawn))}</style>" if fonts else ""
    made, times = re.subn(r"<svg ([^>]*)>", lambda m: f"<svg {opening} {m[1]}>{told}{style}", drawn, count=1)
    assert times == 1, "an SVG begins with its element"
    return made


def png(figure: Figure) -> bytes:
    """Refused where a letter of it would be a box."""
    drawn = _converter().vegalite_to_svg(figure.spec)
    if lost := sorted(set(text(drawn)) - _letters()):
        fail(
            f"字体中没有这些字，不能画成 PNG，请用 --format svg：{'、'.join(f'U+{ord(c):04X}' for c in lost)}",
            UNUSABLE,
        )
    return bytes(_converter().svg_to_png(drawn, scale=SCALE))


def text(drawn: str) -> str:
    """All that is written in an SVG."""
    root = ElementTree.fromstring(drawn)  # noqa: S314  # our own picture
    return "".join("".join(one.itertext()) for one in root.iter("{http://www.w3.org/2000/svg}text"))


def face(letters: str) -> str:
    """The CSS of a font that has these letters and no others: the same letters, the same bytes."""
    from fontTools import subset

    options = subset.Options(flavor="woff", hinting=False, layout_features=[], name_IDs=[0, 1, 2, 13])
    made = io.BytesIO()
    with subset.load_font(str(_font()), options) as font:
        font.recalcTimestamp = False
        cut = subset.Subsetter(options)
        cut.populate(text=letters)
        cut.subset(font)
        subset.save_font(font, made, options)
    data = base64.b64encode(made.getvalue()).decode()
    return f'@font-face{{font-family:"{FAMILY}";src:url(data:font/woff;base64,{data}) format("woff")}}'


@cache
def _converter() -> Any:
    """Vega-Lite without a browser, told of our font: never of what happens to be installed here alone."""
    try:
        import vl_convert
    except ImportError:
        fail(MISSING, UNUSABLE)
    vl_convert.register_font_directory(str(_font().parent))
    return vl_convert


@cache
def _font() -> Path:
    try:
        import fontTools  # noqa: F401  # asked for here, before anything is drawn
        import pylopdf_fonts_zh_cn
    except ImportError:
        fail(MISSING, UNUSABLE)
    return Path(pylopdf_fonts_zh_cn.__file__).parent / "NotoSansSC-Regular.otf"


@cache
def _letters() -> frozenset[str]:
    from fontTools.ttLib import TTFont

    with TTFont(str(_font()), lazy=True) as font:
        return frozenset(map(chr, font.getBestCmap()))
