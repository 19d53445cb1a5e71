"""The directory of agencies: what it holds, whom it finds, and what it says of a faulty file.

Rights of an agency are not tested here.
"""

import json
from hashlib import sha256
from pathlib import Path

import pytest
from pydantic import ValidationError

from shared.notices.directory import Agency, Directory, DirectoryError, UnknownAgency

# Spec §1.10, in the printed order.
DISTRICTS = [
    ("440104", "越秀区", "越秀区商务局"),
    ("440103", "荔湾区", "荔湾区科技工业商务和信息化局"),
    ("440105", "海珠区", "海珠区科技工业商务和信息化局"),
    ("440106", "天河区", "天河区商务金融局"),
    ("440111", "白云区", "白云区科技工业商务和信息化局"),
    ("440113", "番禺区", "番禺区科技工业商务和信息化局"),
    ("440114", "花都区", "花都区科技工业商务和信息化局"),
    ("440112", "黄埔区", "广州开发区经济和信息化局（黄埔区工业和信息化局）"),
    ("440115", "南沙区", "南沙区科技工业和信息化局"),
    ("440118", "增城区", "增城区科技工业商务和信息化局"),
    ("440117", "从化区", "从化区科技工业商务和信息化局"),
]

# Spec §1.1, copied as it stands.
DEPARTMENTS = (
    "市委金融办、市发展改革委、市财政局、市人力资源社会保障局、市农业农村局、市商务局、市文化广电旅游局、"
    "市退役军人事务局、广州海关、黄埔海关、市税务局、市市场监管局、市总工会、市工商联、市贸促会"
)

PLATFORM = """\
- code: demo-platform
  kind: K3
  name: 某某示范平台
  short: 某某平台
  district: "440106"
  email: desk@platform.example
  source: 演示
"""


@pytest.fixture(scope="module")
def directory() -> Directory:
    return Directory.load()


def mount(folder: Path, text: str) -> Path:
    (folder / "demo.yaml").write_text(text, encoding="utf-8")
    return folder


def test_districts_are_the_eleven_in_printed_order(directory: Directory) -> None:
    assert [(each.code, each.short, each.name) for each in directory.of_kind("K2")] == DISTRICTS
    assert [each.district for each in directory.of_kind("K2")] == [code for code, _, _ in DISTRICTS]


@pytest.mark.parametrize("code", ["440101", "440116"])
def test_former_and_technical_division_codes_are_absent(directory: Directory, code: str) -> None:
    assert directory.find(code) is None
    with pytest.raises(UnknownAgency):
        directory.resolve(code)


def test_departments_are_the_fifteen_addressees(directory: Directory) -> None:
    assert "、".join(each.name for each in directory.of_kind("K1")) == DEPARTMENTS


def test_nothing_else_is_packaged(directory: Directory) -> None:
    others = {
        (each.kind, each.code, each.name) for each in directory.agencies if each.kind not in {"K1", "K2"}
    }
    assert others == {("city", "440100", "广州市工业和信息化局"), ("K5", "cyyqsh", "广州市产业园区商会")}


def test_only_the_mailbox_that_a_notice_prints_is_packaged(directory: Directory) -> None:
    assert {e.code: e.email for e in directory.agencies if e.email} == {"440106": "119059997@qq.com"}


def test_every_packaged_fact_is_dated_and_sourced(directory: Directory) -> None:
    dated = {(each.kind, str(each.valid_as_of)) for each in directory.agencies}
    assert dated == {("city", "2025-02-21"), ("K1", "2025-02-21"), ("K2", "2019-05-24"), ("K5", "2019-05-24")}
    sources = {e.source.split(" ")[0] for e in directory.agencies}
    assert sources == {"征集通知·三", "征集通知·主送机关", "1100号", "站点指引·三(一)"}


def test_a_record_keeps_all_that_is_printed(directory: Directory) -> None:
    assert directory.resolve("440104").model_dump(mode="json") == {
        "code": "440104",
        "kind": "K2",
        "name": "越秀区商务局",
        "short": "越秀区",
        "unit": None,
        "aliases": [],
        "district": "440104",
        "email": None,
        "phones": ["37662647", "37631957"],
        "officers": [],
        "listens": False,
        "contacts": [],
        "address": "越秀区先烈中路83号凯城华庭商务中心609室",
        "valid_as_of": "2019-05-24",
        "source": "1100号 附件4 第1行",
        "derived": False,
    }


def test_an_agency_that_lists_its_officers_has_no_others(tmp_path: Path) -> None:
    listed = PLATFORM + '  officers: ["demo-01", "demo-02"]\n'
    found = Directory.load(mount(tmp_path, listed))
    assert found.officers == {"demo-01": "demo-platform", "demo-02": "demo-platform"}
    assert [found.may_sign("demo-platform", o) for o in ("demo-01", "demo-03", None)] == [True, False, True]
    # Without a list any code is taken, but for another's; the sources name nobody, so nothing packaged has one.
    assert [found.may_sign(a, "demo-01") for a in ("440106", "nobody-knows")] == [False, False]
    assert [found.may_sign(a, "张") for a in ("440106", "nobody-knows")] == [True, True]
    assert Directory.load().officers == {}


@pytest.mark.parametrize(
    ("officers", "sentence"),
    [
        ('["demo-01", "demo-01"]', "经办人 demo-01 重复，已见于demo.yaml 第1行"),
        ("[陈晓明]", "officers 应为 经办人代码（如 440106-03）的列表，不写姓名"),
    ],
)
def test_officers_are_codes_and_each_is_one_agency_s(tmp_path: Path, officers: str, sentence: str) -> None:
    with pytest.raises(DirectoryError, match=sentence):
        Directory.load(mount(tmp_path, PLATFORM + f"  officers: {officers}\n"))


def test_directory_survives_json(directory: Directory) -> None:
    assert Directory.model_validate_json(directory.model_dump_json()) == directory


def test_agencies_cannot_be_changed(directory: Directory) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        directory.agencies[0].name = "别的局"  # type: ignore[misc]  # the mistake under test


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("fgw", "fgw"),
        ("４４０１０６", "440106"),
        (" 市财政局 ", "czj"),
        ("广州市财政局", "czj"),
        ("市 税务局", "shuiwuj"),
        ("花都区科技工业信息化局", "440114"),
        ("广州开发区经济和信息化局(黄埔区工业和信息化局)", "440112"),
        ("黄埔区", "440112"),
        ("黄埔海关", "hphg"),
        ("广州市中小企业服务总站", "cyyqsh"),
        ("市工业和信息化局", "440100"),
    ],
)
def test_resolve_knows_codes_names_and_aliases(directory: Directory, text: str, code: str) -> None:
    assert directory.resolve(text).code == code


def test_find_wants_the_code_itself(directory: Directory) -> None:
    assert directory.find("czj") == directory.resolve("市财政局")
    assert directory.find("市财政局") is None


def test_applicant_outside_the_directory_is_named_by_its_name(directory: Directory) -> None:
    digest = sha256("广州某某(科技)有限公司".encode()).hexdigest()
    applicant = directory.resolve("K6:广州某某（科技）有限公司")
    assert applicant == Agency(
        code=f"k6-{digest[:16]}",
        kind="K6",
        name="广州某某（科技）有限公司",
        short="广州某某（科技）有限公司",
        source="自荐（征集通知·二·3）",
        derived=True,
    )


@pytest.mark.parametrize("text", ["K6：某某 有限公司", " K6 : 某某\u3000有限公司 ", "K6:某某\n有限公司"])
def test_applicant_has_one_code_however_its_name_is_spaced(directory: Directory, text: str) -> None:
    assert directory.resolve(text).code == directory.resolve("K6:某某有限公司").code


def test_applicants_with_different_names_have_different_codes(directory: Directory) -> None:
    assert directory.resolve("K6:甲有限公司").code != directory.resolve("K6:乙有限公司").code


def test_listed_agency_stays_itself_behind_k6(directory: Directory, tmp_path: Path) -> None:
    mounted = Directory.load(mount(tmp_path, PLATFORM))
    assert mounted.resolve("K6:某某示范平台").kind == "K3"
    assert directory.resolve("K6:某某示范平台").kind == "K6"


@pytest.mark.parametrize("name", ["", "  ", "某" * 201, "某某\u200b公司", "某某\x00公司"])
def test_applicant_needs_a_visible_name(directory: Directory, name: str) -> None:
    with pytest.raises(UnknownAgency, match="自荐机构的名称应为1至200个可见字符"):
        directory.resolve(f"K6:{name}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("市财正局", "名录中没有“市财正局”；相近的有：市财政局（czj）、市税务局（shuiwuj）"),
        ("xyz", "名录中没有“xyz”；自荐的服务机构请写作“K6:机构名称”"),
        ("", "名录中没有“”；自荐的服务机构请写作“K6:机构名称”"),
        ("K5:某某协会", "名录中没有“K5:某某协会”；自荐的服务机构请写作“K6:机构名称”"),
    ],
)
def test_unknown_agency_is_told_what_comes_near(directory: Directory, text: str, message: str) -> None:
    with pytest.raises(UnknownAgency) as caught:
        directory.resolve(text)
    assert str(caught.value) == message


def test_mounted_file_adds_an_agency_behind_the_packaged_ones(directory: Directory, tmp_path: Path) -> None:
    mounted = Directory.load(mount(tmp_path, PLATFORM))
    assert mounted.agencies[:-1] == directory.agencies
    assert mounted.agencies[-1] == mounted.resolve("某某平台")


def test_mounted_file_replaces_an_agency_in_its_place(tmp_path: Path) -> None:
    renamed = {"code": "440103", "kind": "K2", "name": "荔湾区新局", "short": "荔湾区", "district": "440103"}
    mounted = Directory.load(mount(tmp_path, json.dumps([renamed | {"source": "来函"}])) / "demo.yaml")
    assert [each.code for each in mounted.of_kind("K2")] == [code for code, _, _ in DISTRICTS]
    assert mounted.resolve("荔湾区").name == "荔湾区新局"
    with pytest.raises(UnknownAgency):
        mounted.resolve("荔湾区科工商信局")


def edited(old: str, new: str) -> str:
    assert PLATFORM.count(old) == 1
    return PLATFORM.replace(old, new)


EXPECTED_CODE = "demo.yaml 第1行：code 应为 由小写字母、数字、- 和 _ 组成的字符串（数字须加引号），实为"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (edited("K3", "K9"), 'demo.yaml 第2行：kind 应为 K1–K6 或 city，实为 "K9"'),
        (edited("demo-platform", "Demo.Platform"), f'{EXPECTED_CODE} "Demo.Platform"'),
        (edited("demo-platform", "平台"), f'{EXPECTED_CODE} "平台"'),
        (edited("demo-platform", "440199"), f"{EXPECTED_CODE} 440199"),
        (edited('"440106"', '"440116"'), "demo.yaml 第1行：district 440116 不是名录中的区"),
        (edited('"440106"', "天河"), 'demo.yaml 第5行：district 应为 加引号的六位区划代码，实为 "天河"'),
        (edited("desk@", "desk,"), 'demo.yaml 第6行：email 应为 一个电子邮箱，实为 "desk,platform.example"'),
        (edited("source: 演示", "source: ''"), 'demo.yaml 第7行：source 应为 非空的字符串，实为 ""'),
        (edited("source:", "quelle:"), "demo.yaml 第1行：缺少 source"),
        (PLATFORM + "  fax: 1\n", "demo.yaml 第8行：没有 fax 这一项"),
        (PLATFORM + "  code: again\n", "demo.yaml 第8行：不是有效的 YAML（found duplicate key"),
        (PLATFORM + "  unit: [\n", "demo.yaml 第9行：不是有效的 YAML（"),
        (PLATFORM + PLATFORM, "demo.yaml 第8行：code demo-platform 重复，已见于demo.yaml 第1行"),
        (
            PLATFORM + edited("demo-platform", "other").replace("某某平台", "另一平台"),
            "demo.yaml 第8行：名称 某某示范平台 重复，已见于demo.yaml 第1行",
        ),
        (edited("某某平台", "市财政局"), "demo.yaml 第1行：名称 市财政局 重复，已见于agencies.yaml 第"),
        (
            edited("K3", "K2").replace('  district: "440106"\n', ""),
            "demo.yaml 第1行：K2 须填 district",
        ),
        (PLATFORM + "- 平台\n", 'demo.yaml 第8行：应为一个机构，实为 "平台"'),
        ("code: demo\n", "demo.yaml 第1行：应为机构的列表"),
        ("", "demo.yaml 第1行：应为机构的列表"),
    ],
)
def test_faulty_file_is_told_by_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DirectoryError) as caught:
        Directory.load(mount(tmp_path, text))
    assert str(caught.value).startswith(message)


def test_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "demo.yaml").write_bytes(PLATFORM.encode("gb18030"))
    with pytest.raises(DirectoryError, match=r"demo\.yaml：不是 UTF-8 文本"):
        Directory.load(tmp_path)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DirectoryError, match=r"absent\.yaml：无法读取"):
        Directory.load(tmp_path / "absent.yaml")


def test_schema_of_an_agency_is_plain_json() -> None:
    assert json.loads(json.dumps(Agency.model_json_schema()))["additionalProperties"] is False
