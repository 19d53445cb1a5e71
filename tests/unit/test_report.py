"""The figures of a round: from counts to numbers, to SVG, PNG and a page. Read back by libraries that drew nothing."""

import base64
import io
import os
import re
import struct
import subprocess
import sys
from dataclasses import replace
from datetime import date, timedelta
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from fontTools.ttLib import TTFont
from hypothesis import given, settings
from hypothesis import strategies as st

from services.cli import main, report
from services.cli.common import Fail
from services.cli.report import draw
from services.cli.report.ahead import MOST, Waiting, ahead
from services.cli.report.districts import Standing, by_district, districts
from services.cli.report.figure import Figure
from services.cli.report.funnel import Filed, Part, Way, funnel, parts, tracks
from services.cli.report.page import page
from shared.notices.directory import Directory
from shared.notices.load import load, load_all
from shared.notices.model import Notice

ROOT = Path(__file__).parents[2]
NOTICES = {id_: c.notice for id_, c in load_all().items()}
COLLECTION, STATIONS = NOTICES["gz-collection-2025q1"], NOTICES["gz-stations-2019"]
GUILDS = load(ROOT / "tests/examples/yongping/yongping-guilds-2026.yaml").notice
DIRECTORY = Directory.load()
TODAY = date(2025, 3, 11)
SVG = "{http://www.w3.org/2000/svg}"

WAYS = (
    Way(("recommendation", "formal_check", "selection", "publication", "published"), 20),
    Way(("formal_check", "selection", "publication", "published"), 30),
    Way(("formal_check", "correction", "formal_check", "selection"), 5),
    Way(("formal_check", "selection", "not_selected"), 6),
    Way(("formal_check", "correction"), 1),
    Way(("recommendation", "correction_for_recommender", "recommendation", "rejected"), 2),
    Way(("formal_check", "withdrawn"), 1),
)
ROUND = funnel(COLLECTION, Filed(rows=80, refused=6, others=0), WAYS, TODAY)


def by_districts(*cases: int, stage: str = "active") -> list[Standing]:
    return [
        Standing(a.district or "", stage, n)
        for a, n in zip(DIRECTORY.of_kind("K2"), cases, strict=False)
        if n
    ]


COVERED = by_district(
    STATIONS, DIRECTORY, [*by_districts(3, 0, 7), *by_districts(1, 2, stage="collation")], TODAY
)
WAITING = (
    Waiting("gz-collection-2025q1", "correction", "", "stage", date(2025, 3, 4), False, 2),
    Waiting("gz-clusters", "DL-06", "2025", "duty", date(2026, 2, 28), True, 12),
    Waiting("gz-clusters", "recognised", "", "stage", date(2026, 3, 1), False, 3),
)
AHEAD = ahead(NOTICES.values(), DIRECTORY, WAITING, TODAY)
FIGURES = (ROUND, COVERED, AHEAD)


# --- the funnel --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("notice", "ways"),
    [
        (COLLECTION, ["recommendation formal_check selection publication published"]),
        (
            NOTICES["gz-clusters"],
            [
                "automatic",
                "pool recommendation acceptance expert_review proposal public_notice listing recognised",
            ],
        ),
        (
            STATIONS,
            ["acceptance recommendation collation expert_review approval listing compact", "resident"],
        ),
        (GUILDS, ["review listed"]),  # the start in the list itself is the end of the other way
    ],
    ids=["collection", "clusters", "stations", "guilds"],
)
def test_a_track_is_the_longest_way_to_the_list(notice: Notice, ways: list[str]) -> None:
    assert [" ".join(t) for t in tracks(notice)] == ways


def test_the_funnel_counts_how_far_cases_came() -> None:
    assert ROUND.columns == ("步骤", "到过", "在办", "退回", "终止")
    assert ROUND.rows == (
        ("报送", 71, 0, 0, 6),
        ("受理", 65, 0, 2, 2),
        ("进入形式审查", 63, 1, 6, 1),
        ("进入择优遴选", 61, 5, 0, 6),
        ("进入发布推介", 50, 0, 0, 0),
        ("已发布", 50, 0, 0, 0),
    )
    assert "另有补正、修改或重复报送9次，不重复计数。" in ROUND.notes
    assert ROUND.said == (
        "报送71（未受理6）；受理65（退回2次，终止2）；进入形式审查63（在办1，退回6次，终止1）；"
        "进入择优遴选61（在办5，终止6）；进入发布推介50；已发布50。"
    )


def test_a_title_that_is_taken_away_stays_in_the_funnel_and_is_told() -> None:
    ways = [
        Way(("review", "listed", "ruling", "closed"), 2),
        Way(("review", "listed"), 3),
        Way(("listed",), 1),
    ]
    (track,) = parts(GUILDS, ways)
    assert track == [Part("受理（评审起）", 6), Part("列入名单（示范行会）", 6, stopped=2)]


def test_a_round_that_nobody_has_filed_to_has_its_steps_at_zero() -> None:
    empty = funnel(COLLECTION, Filed(0, 0, 0), (), TODAY)
    assert [row[:2] for row in empty.rows] == [
        ("报送", 0),
        ("受理", 0),
        ("进入形式审查", 0),
        ("进入择优遴选", 0),
        ("进入发布推介", 0),
        ("已发布", 0),
    ]
    assert draw.svg(empty)


@st.composite
def walks(draw_: st.DrawFn) -> tuple[Notice, list[Way]]:
    """Cases that go some way through a procedure, as its outcomes lead."""
    notice = draw_(st.sampled_from([*NOTICES.values(), GUILDS]))
    found = []
    for _ in range(draw_(st.integers(0, 6))):
        way = [draw_(st.sampled_from([s.stage for s in notice.procedure.start]))]
        for _ in range(draw_(st.integers(0, 15))):
            if not (outcomes := list(notice.procedure.by_id[way[-1]].outcomes.values())):
                break
            way.append(draw_(st.sampled_from(outcomes)).to)
        found.append(Way(tuple(way), draw_(st.integers(1, 40))))
    return notice, found


@settings(max_examples=200, deadline=None)
@given(walks())
def test_nothing_is_lost_between_two_steps(walked: tuple[Notice, list[Way]]) -> None:
    notice, ways = walked
    known = parts(notice, ways)
    starts = {stage for track in tracks(notice) for stage in track}
    assert sum(track[0].came for track in known) == sum(w.cases for w in ways if w.stages[0] in starts)
    for track in known:
        for one, following in pairwise(track):
            assert one.came == one.here + one.stopped + following.came
        assert track[-1].on >= 0
        assert all(min(p.came, p.here, p.returned, p.stopped) >= 0 for p in track)


# --- districts ----------------------------------------------------------------------------------------


def test_districts_shows_targets_beside_what_there_is_and_every_district() -> None:
    assert COVERED.rows[:2] == (
        ("中小企业服务站", "", 10, "100个", "R-STA-050，站点指引·二(一)"),
        ("有服务站的区", "", 2, "11个区", "R-STA-051，站点指引·二(一)"),
    )
    assert [row[0] for row in COVERED.rows[2:]] == [a.short for a in DIRECTORY.of_kind("K2")]
    assert [row[1:3] for row in COVERED.rows[2:]] == [(4, 3), (2, 0), (7, 7), *[(0, 0)] * 8]
    assert COVERED.notes[0] == "目标数是文件希望达到的数，只供掌握，不作限制。"
    assert "目标100个（站点指引·二(一)）" in COVERED.said


def test_a_target_that_is_exceeded_is_drawn_as_such_and_one_that_is_about_says_so() -> None:
    covered = by_district(GUILDS, DIRECTORY, [Standing("990101", "listed", 25)], TODAY)
    assert covered.rows[0][1:4] == ("", 25, "10家左右")
    aim, now = (covered.spec["vconcat"][0]["data"]["values"][0][key] for key in ("aim", "now"))
    assert (aim, now) == (0.4, 1)


def test_a_notice_without_targets_shows_what_is_published() -> None:
    covered = by_district(COLLECTION, DIRECTORY, by_districts(3, stage="published"), TODAY)
    assert covered.columns == ("区", "受理", "已列入或已发布")
    assert covered.notes[0] == "本通知没有写明目标数。"


def test_districts_are_those_of_the_city_that_issued_the_notice() -> None:
    other = replace_agencies(DIRECTORY, "990101", "临江区")
    assert [a.short for a in districts(GUILDS, other)] == ["临江区"]
    assert len(districts(COLLECTION, other)) == 11
    # A case of nobody's district is not lost.
    covered = by_district(COLLECTION, other, [Standing("440100", "published", 4)], TODAY)
    assert covered.rows[-1] == ("市级或其他", 4, 4)


def replace_agencies(directory: Directory, code: str, short: str) -> Directory:
    one = directory.of_kind("K2")[0].model_copy(update={"code": code, "district": code, "short": short})
    return Directory(agencies=(*directory.agencies, one))


# --- dates -------------------------------------------------------------------------------------------


def test_dates_ahead_are_in_order_with_what_is_overdue_first() -> None:
    assert [(r[0], r[1], r[2], r[4], r[5], r[6]) for r in AHEAD.rows] == [
        ("2025-03-04", "补正（市局退回）", "办理期限", 2, "已过7天", ""),
        ("2025-06-01", "中小企业服务月开始", "通知日期", "", "还有82天", ""),
        ("2025-06-30", "6月主题服务活动", "通知日期", "", "还有111天", ""),
        ("2026-02-28", "集群年度培育情况信息表（2025）", "应报事项", 12, "还有354天", "暂定"),
        ("2026-03-01", "市级集群（有效期内）", "有效期", 3, "还有355天", ""),
        ("2027-12-29", "本指引的有效期", "通知日期", "", "还有1023天", ""),
    ]
    assert AHEAD.notes == (
        "图中为今后约一年内的前5个日期，其余1个见表。",
        "短竖线是今天。",
        "空心、注明“暂定”的日期，所在年份的放假安排尚未公布，公布后重新计算。",
        "已过期限的1个。",
    )


def test_the_day_itself_is_today_and_until_ends_the_list() -> None:
    on = date(2025, 6, 1)
    found = ahead([COLLECTION], DIRECTORY, (), on, until=on)
    assert [(r[0], r[5]) for r in found.rows] == [("2025-06-01", "今天")]


def test_dates_of_a_historic_notice_are_over() -> None:
    early = date(2019, 1, 1)
    there = ("2019-06-18", "天河区受理截止（天河区）")
    assert there in {row[:2] for row in ahead([STATIONS], DIRECTORY, (), early).rows}
    historic = STATIONS.model_copy(update={"status": "historic"})
    assert ahead([historic], DIRECTORY, (), early).rows == ()


def test_the_picture_has_the_nearest_dates_and_the_table_all() -> None:
    many = [
        Waiting("gz-clusters", "correction", "", "stage", TODAY + timedelta(days=n), False, 1)
        for n in range(40)
    ]
    found = ahead([NOTICES["gz-clusters"]], DIRECTORY, many, TODAY)
    assert len(found.rows) == 41
    assert len(found.spec["vconcat"][0]["data"]["values"]) == MOST
    assert "其余17个见表" in found.notes[0]


# --- pictures ----------------------------------------------------------------------------------------


def read(drawn: str) -> ElementTree.Element:
    return ElementTree.fromstring(drawn)  # noqa: S314  # our own picture


def texts(drawn: str) -> list[str]:
    return ["".join(t.itertext()) for t in read(drawn).iter(f"{SVG}text")]


@pytest.mark.parametrize("figure", FIGURES, ids=lambda f: f.name)
def test_an_svg_says_what_it_shows_to_those_who_cannot_see_it(figure: Figure) -> None:
    root = read(draw.svg(figure))
    title, said = root[0], root[1]
    assert (title.tag, said.tag) == (f"{SVG}title", f"{SVG}desc")
    assert title.text == f"{figure.title}：{''.join(figure.subtitle)}"
    assert said.text == figure.said
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == f"{title.get('id')} {said.get('id')}"
    numbers = {str(v) for row in figure.rows for v in row if isinstance(v, int)}
    assert numbers - set(re.findall(r"\d+", figure.said)) == ({"0"} if figure is ROUND else set())


def test_the_bars_of_the_funnel_are_as_long_as_their_numbers() -> None:
    drawn = draw.svg(ROUND)
    lengths = [float(m) for m in re.findall(r'd="M[-\d.]+,[-\d.]+h([\d.]+)v16h-[\d.]+Z" fill="#', drawn)]
    counts = sorted(
        n for row in ROUND.rows for n in (int(row[1]) - int(row[2]) - int(row[4]), *row[2:5:2]) if n
    )
    full = 420 / 71
    assert sorted(round(length / full, 2) for length in lengths) == counts


def test_the_numbers_of_the_table_are_written_in_the_picture() -> None:
    written = texts(draw.svg(ROUND))
    for name, came, here, returned, stopped in ROUND.rows:
        assert f"{name}　{came}" in written
        ended = "未受理" if name == "报送" else "终止"
        more = [(here, f"在办{here}"), (returned, f"退回{returned}次"), (stopped, f"{ended}{stopped}")]
        if any(n for n, _ in more):
            assert "　".join(said for n, said in more if n) in written


@pytest.mark.parametrize("figure", FIGURES, ids=lambda f: f.name)
def test_an_svg_brings_every_letter_that_it_has(figure: Figure) -> None:
    drawn = draw.svg(figure)
    found = re.search(r"src:url\(data:font/woff;base64,([^)]+)\)", drawn)
    assert found is not None
    letters = set(map(chr, TTFont(io.BytesIO(base64.b64decode(found[1]))).getBestCmap()))
    assert set("".join(texts(drawn))) - letters == set()
    assert len(drawn) < 60_000


def test_a_letter_that_the_font_lacks_is_no_box_in_a_png() -> None:
    """The negative control is the same figure without it."""
    rare = by_district(COLLECTION, replace_agencies(DIRECTORY, "440199", "𠮷祥区"), (), TODAY)
    with pytest.raises(Fail, match=r"U\+20BB7"):
        draw.png(rare)
    assert "𠮷祥区" in "".join(texts(draw.svg(rare)))
    assert draw.png(COVERED).startswith(b"\x89PNG")


def test_a_png_is_three_times_as_large_as_its_figure() -> None:
    width, height = struct.unpack(">II", draw.png(ROUND)[16:24])
    root = read(draw.svg(ROUND))
    assert (width, height) == (3 * int(root.get("width", 0)), 3 * int(root.get("height", 0)))


def test_a_long_name_ends_before_the_number_beside_it() -> None:
    long = replace_stage_name("补正" * 20)
    drawn = texts(draw.svg(ahead([long], DIRECTORY, WAITING[:1], TODAY)))
    assert any(t.endswith("…") and t.startswith("2025-03-04　补正补正") for t in drawn)
    assert "2项　已过7天" in drawn


def replace_stage_name(name: str) -> Notice:
    stages = tuple(
        s.model_copy(update={"name": name}) if s.id == "correction" else s
        for s in COLLECTION.procedure.stages
    )
    procedure = COLLECTION.procedure.model_copy(update={"stages": stages})
    procedure.__dict__.pop("by_id", None)
    return COLLECTION.model_copy(update={"procedure": procedure})


AGAIN = """
import pathlib, sys
sys.path.insert(0, "")
from tests.unit.test_report import FIGURES
from services.cli import report
report.write(FIGURES, pathlib.Path(sys.argv[1]), list(report.Format))
"""
NO_FONTS = (
    '<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig><dir>{}</dir></fontconfig>'
)


def test_the_same_counts_are_the_same_bytes_in_any_process_and_whatever_fonts_it_has(tmp_path: Path) -> None:
    (tmp_path / "none.conf").write_text(NO_FONTS.format(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", AGAIN, str(tmp_path / "there")],
        env={**os.environ, "PYTHONHASHSEED": "7", "FONTCONFIG_FILE": str(tmp_path / "none.conf")},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    here = report.write(FIGURES, tmp_path / "here", list(report.Format))
    assert sorted(p.name for p in here) == sorted(
        [*(f"{f.name}.{ext}" for f in FIGURES for ext in ("png", "svg")), "report.html"]
    )
    for path in here:
        assert path.read_bytes() == (tmp_path / "there" / path.name).read_bytes(), path.name


# --- the page ----------------------------------------------------------------------------------------


class Cells(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.cell = False
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        self.cell = tag in ("td", "th")
        self.outside += [
            f"{tag} {k}" for k, v in attributes if k in ("src", "href") or (v or "").startswith("http")
        ]

    def handle_endtag(self, tag: str) -> None:
        self.cell = False

    def handle_data(self, data: str) -> None:
        if self.cell:
            self.rows[-1][-1] += data


def test_the_page_has_every_picture_and_its_numbers_and_needs_nothing_beside_it(tmp_path: Path) -> None:
    (path,) = report.write(FIGURES, tmp_path, [report.Format.HTML])
    html = path.read_text(encoding="utf-8")
    read = Cells()
    read.feed(html)
    wanted = [[str(v) for v in row] for f in FIGURES for row in (f.columns, *f.rows)]
    assert read.rows == wanted
    assert set(read.outside) <= {"svg xmlns", "svg xmlns:xlink"}
    assert html.count("<svg ") == 3
    assert html.count("@font-face") == 1
    assert '<html lang="zh-CN">' in html
    assert 'name="viewport" content="width=device-width, initial-scale=1"' in html


def test_what_a_notice_says_is_text_in_the_page() -> None:
    figure = replace(ROUND, rows=(("<script>alert(1)</script>", 1, 0, 0, 0),), notes=("<b>",))
    html = page("<i>", [figure], ["<svg/>"], "")
    assert "<script>" not in html
    assert "<b>" not in html
    assert "<i>" not in html


# --- the extra ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["vl_convert", "fontTools", "pylopdf_fonts_zh_cn"])
def test_without_the_extra_a_picture_is_refused_in_a_sentence(missing: str) -> None:
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from services.cli import report\nfrom services.cli.report import draw\n"
        "from services.cli.common import Fail\n"
        "try:\n    draw._font(); draw._converter()\nexcept Fail as error:\n    print(error, error.status)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "pip install 'yiqi[pictures]'" in done.stdout, done.stderr
    assert done.stdout.strip().endswith(" 2")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["round"], "请用 --notice 写明通知编号"),
        (["ahead", "--format", "png"], "请用 --out 写明放在哪个文件夹"),
        (["round", "--notice", "nothing"], "没有通知 nothing"),
    ],
    ids=["notice", "folder", "unknown"],
)
def test_what_is_missing_is_said_before_anything_is_read(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YIQI_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/yiqi")
    with pytest.raises(SystemExit) as ended:
        main(["report", *arguments])
    assert ended.value.code == 2
    assert sentence in capsys.readouterr().err


def test_no_other_command_loads_what_draws() -> None:
    code = "import sys, services.cli; print({'vl_convert', 'fontTools', 'pylopdf_fonts_zh_cn'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "set()", done.stderr


def test_only_one_module_knows_what_draws() -> None:
    modules = [p for folder in ("services", "shared") for p in (ROOT / folder).rglob("*.py")]
    knowing = {str(p.relative_to(ROOT)) for p in modules if re.search(r"import vl_convert", p.read_text())}
    assert knowing == {"services/cli/report/draw.py"}
