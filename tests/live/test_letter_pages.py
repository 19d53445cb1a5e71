"""How letters look, in a real browser: nothing to scroll sideways on a phone, nothing fetched, nothing too small to read.

What they say is in tests/unit/test_letters.py.
"""

import html
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from services.notify.compose import render
from services.notify.samples import samples
from services.notify.templates import LETTERS, Letters
from shared.notices.directory import Directory
from shared.notices.load import load_all

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium here: apt-get install chromium fonts-noto-cjk"
)

WIDTHS = (375, 1280)
SMALLEST = 13
FLAGS = (
    "--headless", "--hide-scrollbars", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--virtual-time-budget=5000",
)  # fmt: skip

MEASURE = """
const found = {};
for (const frame of document.querySelectorAll('iframe')) {
  const page = frame.contentDocument, root = page.documentElement, view = frame.contentWindow;
  const words = [...page.querySelectorAll('body *')].filter(
    e => [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()));
  found[frame.id] = {
    wide: root.scrollWidth - root.clientWidth,
    smallest: Math.min(...words.map(e => parseFloat(view.getComputedStyle(e).fontSize))),
    card: page.querySelector('.card').getBoundingClientRect().width,
    fetched: view.performance.getEntriesByType('resource').length,
  };
}
document.body.innerHTML = '';
document.body.append(Object.assign(document.createElement('pre'), {textContent: JSON.stringify(found)}));
"""


def pages() -> dict[str, str]:
    """Of each letter the one that says most, with values as bad as they come: long words that cannot be broken."""
    letters = Letters.load()
    found: dict[str, str] = {}
    notices = {id_: compiled.notice for id_, compiled in load_all().items()}
    for one in samples(notices, Directory.load()):
        if one.owed.params["case"]:
            one.owed.params["case"]["title"] = "https://example.com/" + "ab12" * 30
        page = render(one.owed, letters, one.at, calendar_file="期限.ics").html
        found[one.owed.letter] = max(page, found.get(one.owed.letter, ""), key=len)
    return found


def measured(shown: dict[str, str]) -> dict[str, dict[str, float]]:
    """Every page at every width, in one start of the browser."""
    frames = "".join(
        f'<iframe id="{name}-{width}" style="width:{width}px;border:0" srcdoc="{html.escape(page)}"></iframe>'
        for name, page in shown.items()
        for width in WIDTHS
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "all.html"
        path.write_text(
            f"<!doctype html><meta charset=utf-8><body>{frames}<script>onload = () => {{{MEASURE}}}</script>"
        )
        assert CHROMIUM is not None
        done = subprocess.run(
            [CHROMIUM, *FLAGS, f"--user-data-dir={folder}/profile", "--dump-dom", path.as_uri()],
            capture_output=True,
            check=True,
            timeout=100,
        )
    told = re.search("<pre>(.*)</pre>", done.stdout.decode(), re.DOTALL)
    assert told, "the page did not measure itself"
    found: dict[str, dict[str, float]] = json.loads(html.unescape(told[1]))
    return found


def test_every_letter_reads_well_on_a_phone_and_on_a_desk() -> None:
    found = measured(pages())
    assert set(found) == {f"{letter}-{width}" for letter in LETTERS for width in WIDTHS}
    assert {name: one["wide"] for name, one in found.items() if one["wide"] > 0} == {}
    assert {name: one["smallest"] for name, one in found.items() if one["smallest"] < SMALLEST} == {}
    assert {one["fetched"] for one in found.values()} == {0}
    assert {one["card"] for name, one in found.items() if name.endswith("1280")} == {640}
    assert {one["card"] for name, one in found.items() if name.endswith("375")} == {375 - 2 * 8}


def test_a_page_that_does_not_fit_would_be_seen() -> None:
    """The negative control."""
    wide = '<table class="card" width="500"><tr><td style="font-size:9px">x</td></tr></table>'
    shown = f"<!doctype html><body>{wide}<img src='http://127.0.0.1:9/x.gif'></body>"
    found = measured({"bad": shown})
    assert found["bad-375"]["wide"] > 0
    assert found["bad-1280"]["wide"] == 0
    assert found["bad-375"]["smallest"] == 9
    assert found["bad-375"]["fetched"] == 1
