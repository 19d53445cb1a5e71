"""What the command line tells people: of what they typed, of files and servers, of papers, of what has happened."""

import errno
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import nats.errors
import pytest
import typer
from typer.testing import CliRunner

from services import cli
from services.cli import cases, common, deciding, filing, local, names, papers
from services.cli.wrongs import worded
from shared.contracts.case import DecisionMade
from shared.notices.load import load_all

HUANGPU = "440112"
STATIONS = load_all()["gz-stations-2019"]


def ended(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> Any:
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    told = capsys.readouterr()
    return end.value.code, told.out, told.err


# --- what was typed, files, servers --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("fact X --as 440106 --kind foo --detail x --on 2026-01-01", ["--kind 应为以下之一：incident、inspection"]),
        ("check x --notice g --as 4 --on 2026/1/1", ["--on 应为日期，写作 2025-03-07"]),
        ("check", ["缺少 file"]),
        ("check a --notis x", ["没有选项 --notis", "--notice"]),
        ("chekc", ["没有命令 chekc"]),
        ("check a b c --notice x --as y", ["多出了内容：b c"]),
        ("dead show intake x", ["n 应为整数"]),
        ("decide --file", ["--file 后面要写上内容"]),
        ("ops retain", ["--closed-before", "--older-than"]),
        ("ops retain --older-than 9 --closed-before 2026-01-01", ["--closed-before", "--older-than"]),
        ("check /etc/passwd/x --notice gz-clusters --as 440112", ["没有文件"]),
        ("notice template gz-clusters --out /etc/passwd/x", ["/etc/passwd/x：路径中有一段不是文件夹"]),
        ("submit /etc/passwd --notice gz-clusters --as 440112 --material x=y", ["没有材料 x", "plan（", "all（"]),
        ("submit /etc/passwd --notice gz-clusters --as 440112 --material x", ["--material 应写作 KEY=文件"]),
    ],
)  # fmt: skip
def test_what_is_typed_wrong_is_told_in_chinese(
    arguments: str, words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    status, out, told = ended(arguments.split(), capsys)
    assert (status, out) == (2, "")
    assert all(word in told for word in words), told
    assert not {"Invalid", "Missing", "没有连上服务"} & set(told.split())
    assert "没有连上服务" not in told


@pytest.mark.parametrize(
    "error",
    [nats.errors.NoServersError(), nats.errors.TimeoutError(), ConnectionRefusedError(), TimeoutError()],
)
def test_no_server_is_one_sentence(error: Exception) -> None:
    found = worded(error)
    assert found is not None
    assert found[1] == 3
    assert found[0].startswith("没有连上服务")


def test_another_error_of_the_bus_is_told_too_and_a_bug_is_not_hidden() -> None:
    found = worded(nats.errors.MaxPayloadError())
    assert found is not None
    assert found[1] == 3
    assert worded(ZeroDivisionError()) is None


@pytest.mark.parametrize("kind", [NotADirectoryError, PermissionError, IsADirectoryError])
def test_a_file_that_cannot_be_used_is_no_server(kind: type[OSError]) -> None:
    number = {NotADirectoryError: errno.ENOTDIR, PermissionError: errno.EACCES}.get(kind, errno.EISDIR)
    found = worded(kind(number, os.strerror(number), "附件5.xlsx"))
    assert found is not None
    assert found[1] == 2
    assert found[0].startswith("附件5.xlsx：")


def test_without_a_bus_a_filing_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("YIQI_NATS_URL", f"nats://127.0.0.1:{free.getsockname()[1]}")
        monkeypatch.chdir(tmp_path)  # where no `yiqi up` has left its address
        common.settings.cache_clear()
        (tmp_path / "发展规划.pdf").write_bytes(b"%PDF")
        arguments = ["submit", str(tmp_path / "发展规划.pdf"), "--notice", "gz-clusters", "--as", HUANGPU]
        status, out, told = ended(arguments, capsys)
    common.settings.cache_clear()
    assert status == 3
    assert told.startswith("没有连上服务")
    assert "材料：发展规划.pdf → 集群未来三年发展规划" in out


# --- checking offline ----------------------------------------------------------------------------------


def test_an_offline_check_knows_the_district_and_says_what_it_does_not_know() -> None:
    compiled, agency = load_all()["gz-clusters"], common.agency(HUANGPU)
    made = filing._filing(compiled, filing._filer(agency), agency, None, datetime(2025, 5, 1, tzinfo=UTC))
    assert (made.district, made.district_name) == (HUANGPU, "黄埔区")
    applicant = common.agency("K6:某商会")
    made = filing._filing(
        STATIONS, filing._filer(applicant), applicant, "440106", datetime(2019, 6, 1, tzinfo=UTC)
    )
    assert (made.unit, made.district_name) == ("440106", "天河区")
    with pytest.raises(common.Fail):
        filing._filing(STATIONS, made.filer, applicant, "nobody", made.received)
    assert filing._unchecked(compiled.notice, None) == ["材料", "扫描件", "截止日", "以往报送"]
    assert filing._unchecked(load_all()["gz-collection-2025q1"].notice, datetime(2025, 1, 1)) == [  # noqa: DTZ001
        "扫描件",
        "以往报送",
    ]


# --- papers --------------------------------------------------------------------------------------------


def test_what_each_file_is_taken_for(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("附件1.xlsx", "营业执照.pdf", "扫描.pdf", "花名册.docx", "全.pdf")]
    for path in paths:
        path.write_bytes(b"x")
    found = papers.gather(
        STATIONS.notice, paths[:3], [f"staff_evidence={paths[3]}", f"all={paths[4]}", f"premises={paths[2]}"]
    )
    assert [(p.path.name, p.role, p.material) for p in found] == [
        ("附件1.xlsx", "workbook", None),
        ("营业执照.pdf", "scan", None),
        ("花名册.docx", "workbook", "staff_evidence"),
        ("全.pdf", "scan", "all"),
        ("扫描.pdf", "scan", "premises"),
    ]
    assert [line.partition("（")[0] for line in papers.lines(STATIONS.notice, found)] == [
        "材料：营业执照.pdf → 法人证书或营业执照副本复印件",
        "材料：花名册.docx → 专职工作人员情况",
        "材料：全.pdf → 全部材料",
        "材料：扫描.pdf → 固定经营服务场所证明",
    ]
    (unknown,) = papers.lines(STATIONS.notice, [papers.Paper(Path("照片.pdf"))])
    assert "未认出" in unknown


def test_a_command_line_takes_materials() -> None:
    told = CliRunner().invoke(cli.app, ["submit", "--help"], env={"COLUMNS": "200"})
    assert "--material" in told.output
    assert "--recommender" in CliRunner().invoke(cli.app, ["check", "--help"], env={"COLUMNS": "200"}).output


# --- what has happened ---------------------------------------------------------------------------------


def test_a_decision_is_told_by_what_it_is() -> None:
    row = {
        "number": "F12-7K3M9QXA",
        "notice": "gz-stations-2019",
        "stage": "rejected",
        "was": "recommendation",
    }
    made = DecisionMade(case=uuid4(), outcome="reject", reason="x")
    assert deciding._decided(made, row) == "已办理 F12-7K3M9QXA 初审不予推荐：现在阶段“不予受理或推荐”"
    assert deciding._done({"number": "F12-7K3M9QXA"}, object()) == "已记录 F12-7K3M9QXA"


def test_a_package_is_told_by_its_outcome() -> None:
    assert filing._filed({"errors": [{"severity": "soft"}]}).startswith("已受理；")
    assert (
        filing._filed({"errors": [{"severity": "hard"}], "number": "F3-1"})
        == "部分受理，其余须修改后重报 F3-1"
    )


@pytest.mark.parametrize(
    ("pointer", "place"),
    [("#/data/decisions/0", "第1项"), ("#/data/decisions/9", "第10项"), ("#/data/x", "")],
)
def test_decisions_are_counted_from_one(pointer: str, place: str) -> None:
    assert filing.place({"pointer": pointer}) == place


def test_a_batch_with_faults_is_told_and_ends_with_one(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = {"pointer": "#/data/decisions/2", "detail": "不在这个阶段"}
    with pytest.raises(typer.Exit) as end:
        deciding._tell_batch({"accepted": "b", "errors": [wrong]}, "3项", hold=False)
    assert end.value.exit_code == 1
    told = capsys.readouterr().out
    assert "1项办不了" in told
    assert "第3项" in told


# --- names and times -----------------------------------------------------------------------------------


def test_keys_are_told_by_their_names() -> None:
    notice = "gz-stations-2019"
    assert names.stage(notice, "expert_review") == "专家评审（expert_review）"
    assert names.stage(notice, "nowhere") == "nowhere"
    assert names.stage("nothing", "x") == "x"
    assert names.outcome(notice, None, "file") == "报送（file）"
    assert names.outcome(notice, "recommendation", "reject") == "初审不予推荐（reject）"
    assert names.outcome(notice, "acceptance", "reject") == "不予受理（reject）"
    assert names.agency(HUANGPU) == f"黄埔区（{HUANGPU}）"
    assert names.agency("k6-1") == "k6-1"
    assert names.column(notice, "F12", "station_name").endswith("（station_name）")
    assert names.column(notice, "F12", "x") == "x"
    duty = STATIONS.notice.duties[0]
    assert names.duty(notice, duty.id) == f"{duty.name}（{duty.id}）"


def test_the_engine_s_own_words_have_names() -> None:
    from shared.notices.stages import OURS

    assert set(names.OURS) == OURS


def test_times_are_those_of_guangzhou() -> None:
    assert common.shown(datetime(2025, 3, 7, 16, 30, tzinfo=UTC)) == "2025-03-08 00:30"
    assert (common.shown(None), common.shown(3)) == ("", "3")


def test_a_case_is_shown_with_names(capsys: pytest.CaptureFixture[str]) -> None:
    case: dict[str, Any] = {
        "notice": "gz-stations-2019", "form": "F12", "findings": [], "assessments": [], "judgements": {},
        "scores": {}, "score": None,
    }  # fmt: skip
    line = {
        "version": 1, "at": datetime(2019, 6, 10, 2, tzinfo=UTC), "actor": "440106", "outcome": "file",
        "stage": "acceptance", "reason": "", "rules": [], "acknowledges": [], "data": {},
    }  # fmt: skip
    parts = {title: rows for title, _, rows in cases._parts(case, [line], [])}
    (row,) = parts["经过"]
    assert row[2:5] == ("天河区（440106）", "报送（file）", "区受理（acceptance）")


def test_another_folder_is_told_how_to_find_what_runs() -> None:
    environment = {
        "YIQI_NATS_URL": "nats://h:1",
        "YIQI_DATABASE_URL": "postgresql://u:p@h/x?a=b c",
        "YIQI_CLOCK": "c",
    }
    first, *exports = local.elsewhere(Path("/some/where"), environment)
    assert "/some/where" in first
    assert exports[1] == "export YIQI_DATABASE_URL='postgresql://u:p@h/x?a=b c'"
