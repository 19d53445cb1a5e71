"""Templates: that every letter can be written, and that what a mounted folder changes is checked before it is used."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.cli import main
from services.notify import check
from services.notify.compose import context, render
from services.notify.samples import CODE, MAILBOX, Sample, samples
from services.notify.templates import LETTERS, OCCASIONS, OPTIONAL, BadLetters, Letters
from shared.notices.directory import Directory
from shared.notices.load import load_all

NOTICES = load_all()
DIRECTORY = Directory.load()
PACKAGED = Letters.load()
ALL = samples({id_: compiled.notice for id_, compiled in NOTICES.items()}, DIRECTORY)


def put(folder: Path, part: str, content: str | bytes) -> Path:
    path = folder / part
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def faults_in(folder: Path) -> list[tuple[str, int, str]]:
    try:
        check.load(folder, NOTICES, DIRECTORY)
    except BadLetters as error:
        return [(str(Path(f.file).relative_to(folder)), f.line, f.message) for f in error.faults]
    return []


# ---- the packaged ones


def test_the_packaged_letters_have_no_fault() -> None:
    assert check.faults(PACKAGED, NOTICES, DIRECTORY) == []


def test_every_letter_has_a_sample_and_an_occasion() -> None:
    assert {s.owed.letter for s in ALL} == set(LETTERS) == set(OCCASIONS)


def test_what_an_agency_must_know_cannot_be_unsubscribed_from() -> None:
    named = {d.letter for c in NOTICES.values() for d in c.notice.deadlines}
    named |= {
        o.letter for c in NOTICES.values() for s in c.notice.procedure.stages for o in s.outcomes.values()
    }
    assert OPTIONAL & named == set()


def test_no_sample_has_the_address_or_number_of_anybody() -> None:
    """The negative control: the directory does have one."""
    private = {a.email for a in DIRECTORY.agencies} | {p for a in DIRECTORY.agencies for p in a.phones}
    assert private - {None}
    for sample in ALL:
        assert (sample.owed.address or "").endswith("@example.com")
        said = str(sample.owed.params) + render(sample.owed, PACKAGED, sample.at).text
        assert [p for p in private if p and p in said] == []


def samples_of_filer() -> list[Sample]:
    return [s for s in ALL if s.owed.to == CODE]


def test_the_samples_are_of_a_unit_that_there_is_not() -> None:
    assert DIRECTORY.find(CODE) is None
    assert {s.owed.address for s in samples_of_filer()} == {MAILBOX}


@pytest.mark.parametrize("sample", ALL, ids=[f"{i}-{s.owed.letter}" for i, s in enumerate(ALL)])
def test_the_plain_text_says_all_that_the_page_says(sample: Sample) -> None:
    written = render(sample.owed, PACKAGED, sample.at, calendar_file="期限.ics")
    text = "".join((written.subject + written.text).split())
    fragments = ["".join(f.split()).strip("，。：（）〔〕") for f in check.seen(written.html).splitlines()]
    assert [f for f in fragments if f not in text] == []


@pytest.mark.parametrize("sample", ALL, ids=[f"{i}-{s.owed.letter}" for i, s in enumerate(ALL)])
def test_a_letter_says_what_is_next_by_when_and_whom_to_ask(sample: Sample) -> None:
    text = render(sample.owed, PACKAGED, sample.at).text
    params = sample.owed.params
    assert re.search(r"^下一步：\S", text, re.MULTILINE)
    assert f"如有疑问，请联系{params['ask']}。" in text
    if params["due"]:
        assert f"{'时间' if params['due']['from'] else '期限'}：" in text
    if sample.owed.letter != "daily":
        assert "依据：" in text or not params["clauses"]
        assert f"事由：{params['notice']}" in text
    # Of a value that was forgotten nothing is seen but a hole.
    assert not re.search("“”|（）|〔〕|：。|，。|。。|None|\\{|\\}", text)


# ---- mounted


def test_a_mounted_part_changes_that_part_and_no_other(tmp_path: Path) -> None:
    put(tmp_path, "returned/subject.txt", "〔请修改〕{{ case.number }}\n")
    letters = check.load(tmp_path, NOTICES, DIRECTORY)
    assert {name: letters.overridden(name) for name in LETTERS if letters.overridden(name)} == {
        "returned": ["subject.txt"]
    }
    sample = next(s for s in ALL if s.owed.letter == "returned")
    mine, theirs = (render(sample.owed, one, sample.at) for one in (letters, PACKAGED))
    assert mine.subject == f"〔请修改〕{sample.owed.params['case']['number']}"
    assert (mine.text, mine.html.split("</head>")[1]) == (theirs.text, theirs.html.split("</head>")[1])


def test_the_frame_of_all_letters_may_be_mounted(tmp_path: Path) -> None:
    packaged = PACKAGED.source("_base/body.txt")
    put(tmp_path, "_base/body.txt", packaged.replace("如有疑问", "有疑问的"))
    letters = check.load(tmp_path, NOTICES, DIRECTORY)
    for sample in ALL[:5]:
        assert "有疑问的，请联系" in render(sample.owed, letters, sample.at).text


def test_a_folder_as_kubernetes_mounts_it(tmp_path: Path) -> None:
    """Files are links into a hidden folder, which has them a second time."""
    put(tmp_path, "..2026_01_01/returned/subject.txt", "〔请修改〕{{ case.number }}\n")
    (tmp_path / "..data").symlink_to("..2026_01_01")
    (tmp_path / "returned").symlink_to("..data/returned")
    assert check.load(tmp_path, NOTICES, DIRECTORY).overridden("returned") == ["subject.txt"]


BODY = "{% extends '_base/body.txt' %}\n"
PAGE = "{% extends '_base/body.html' %}\n{% block heading %}退回{% endblock %}{% block next %}请修改{% endblock %}\n"
BAD = [
    ("returned/subject.txt", "〔退回〕{{ case.nummer }}\n", 1, "case 没有 nummer 这一项"),
    ("returned/subject.txt", "〔退回〕{{ zahl }}\n", 1, "没有名为 zahl 的值"),
    ("returned/subject.txt", "退回 {{ case.number }}\n", 1, "主题须以〔…〕开头"),
    ("returned/subject.txt", "〔退回〕\n{{ case.number }}\n", 1, "主题只能有一行"),
    ("returned/subject.txt", f"〔退回〕{'长' * 130}\n", 1, "主题有134字"),
    ("returned/subject.txt", "〔退回〕{{ case.number }\n", 1, "模板语法有误"),
    ("returned/subject.txt", b"\xcd\xcb\xbb\xd8", 0, "不是 UTF-8 文本"),
    # In a branch that no sample reaches.
    ("returned/body.txt", BODY + "{% block what %}{% if late > 2 %}\n{{ zahl }}{% endif %}{% endblock %}{% block next %}x{% endblock %}\n", 3, "没有名为 zahl"),
    ("returned/body.txt", BODY + "{% block what %}x{% endblock %}\n", 0, "缺少 next 一块"),
    ("returned/body.txt", "{% extends '_base/nothing.txt' %}\n", 1, "没有模板 _base/nothing.txt"),
    ("returned/body.txt", "{% include '/etc/passwd' %}\n", 1, "没有模板 /etc/passwd"),
    ("returned/body.txt", "{% include '../../compose.py' %}\n", 1, "没有模板 ../../compose.py"),
    ("returned/body.txt", "{{ notice.__class__.__mro__ }}\n", 1, "模板不得这样做"),
    ("returned/body.txt", "{{ notice.format.__globals__ }}\n", 1, ""),
    ("returned/body.txt", "{{ case.clear() }}\n", 1, ""),
    ("returned/body.txt", "{{ due | zeit }}\n", 1, "No filter named 'zeit'"),
    ("returned/body.txt", "{{ reason | safe }}\n", 1, "No filter named 'safe'"),
    ("returned/body.txt", "请修改。\n", 0, "纯文本（4字）比网页"),
    ("returned/body.html", PAGE + "{% block what %}<img src='https://x.example/a.png'>{% endblock %}\n", 3, "外部资源：src"),
    ("returned/body.html", PAGE + "{% block what %}\n<p style=\"background:url('//x.example')\">x</p>{% endblock %}\n", 4, "外部资源：style"),
    ("returned/body.html", PAGE + "{% block what %}<style>@import 'x';</style>{% endblock %}\n", 3, "外部资源：style"),
    ("returned/body.html", PAGE + "{% block what %}<script>1</script>{% endblock %}\n", 3, "不得有 <script>"),
    ("returned/body.html", PAGE + "{% block what %}<a href='http://x.example'>x</a>{% endblock %}\n", 3, "链接须以 https://"),
    ("returned/body.html", PAGE + "{% block what %}<b onclick='x'>x</b>{% endblock %}\n", 3, "不得有脚本：onclick"),
    ("returned/body.html", PAGE + "{% block what %}{% autoescape false %}{{ reason }}{% endautoescape %}{% endblock %}\n", 3, "不得关闭自动转义"),
    ("_base/body.txt", "{{ ask }}\n{{ options }}\n", 2, "没有名为 options 的值"),
    ("returnd/body.txt", "x", 0, "没有这封信函"),
    ("returned/text.txt", "x", 0, "信函只有 subject.txt、body.txt、body.html"),
]  # fmt: skip


@pytest.mark.parametrize(("part", "content", "line", "message"), BAD, ids=range(len(BAD)))
def test_a_faulty_part_is_named_with_its_line_and_nothing_starts(
    tmp_path: Path, part: str, content: str, line: int, message: str
) -> None:
    put(tmp_path, part, content)
    found = faults_in(tmp_path)
    assert [f for f in found if f[:2] == (part, line) and message in f[2]], found
    assert {f[0] for f in found} == {part}, "a fault was put down to a part that has none"


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadLetters, match="没有这个文件夹"):
        Letters.load(tmp_path / "nowhere")


def test_a_value_is_not_a_template(tmp_path: Path) -> None:
    sample = next(s for s in ALL if s.owed.letter == "returned")
    values = {**context(sample.owed, PACKAGED, sample.at), "reason": "{{ 7 * 7 }}<b>"}
    written = PACKAGED.write("returned", values)
    assert "{{ 7 * 7 }}<b>" in written.text
    assert "{{ 7 * 7 }}&lt;b&gt;" in written.html


# ---- the command line


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    from services.cli import common

    monkeypatch.chdir(tmp_path)
    for cached in (common.settings, common.directory):
        cached.cache_clear()
    yield
    for cached in (common.settings, common.directory):
        cached.cache_clear()


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_check_says_where_and_ends_with_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("letter", "check") == 0
    assert "没有错误" in capsys.readouterr().out
    path = put(tmp_path / "mine", "kept/subject.txt", "〔保留〕{{ nothing }}\n")
    assert run("letter", "check", "mine") == 1
    assert f"{path.relative_to(tmp_path)} 第1行：没有名为 nothing 的值" in capsys.readouterr().out
    assert run("letter", "check", "mine", "--json") == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["ok"], told["errors"][0]["line"]) == (False, 1)


def test_list_names_what_is_mounted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "mine", "kept/subject.txt", "〔保留〕{{ case.number }}\n")
    monkeypatch.setenv("YIQI_LETTERS", "mine")
    assert run("letter", "list", "--json") == 0
    rows = {row["letter"]: row for row in json.loads(capsys.readouterr().out)}
    assert set(rows) == set(LETTERS)
    assert (rows["kept"]["overridden"], rows["kept"]["subject"]) == (
        ["subject.txt"],
        "〔保留〕{{ case.number }}",
    )
    assert rows["kept"]["occasion"]


def test_preview_writes_the_same_files_every_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for out in ("one", "two"):
        assert run("letter", "preview", "judged", "--out", out) == 0
    names = {"judged.eml", "judged.html", "judged.txt"}
    contents = [{p.name: p.read_bytes() for p in (tmp_path / out).iterdir()} for out in ("one", "two")]
    assert contents[0] == contents[1]
    assert set(contents[0]) == names
    assert run("letter", "preview", "hearing", "--notice", "gz-collection-2025q1") == 2
    assert "不发出信函 hearing" in capsys.readouterr().err
    assert run("letter", "preview", "heering") == 2
