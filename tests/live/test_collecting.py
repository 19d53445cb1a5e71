"""A round as one ZIP and a case as another: what the commands write, checked with readers that are not ours.

How a bundle is sealed is in `tests/unit/test_bundle.py`.
"""

import json
import re
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import docx
import pytest
from openpyxl import load_workbook

from services.cli.demo.lives import STATION_FORM, STATIONS
from services.cli.local import Local
from services.export.formats import FORMATS
from shared.contracts import registry
from shared.notices.load import load_all
from shared.runtime.embedded import eventually
from tests.chaos.places import ended
from tests.items import APPLICATION, COMPANY, TITLE
from tests.live.test_flow import CITY, DURING, NOTICE, Institution, bus, lecture

PHONE, EMAIL, NAME = "83726619", "dossier@flow.example", "案卷测试机构"
CARD = "附件9-2-“城市合伙人”企业推荐表"


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    here = Local(tmp_path_factory.mktemp("collecting"), sync_always=False)
    here.clock.write_text(str((DURING - datetime.now(UTC)).total_seconds()))
    with here:
        yield here


@pytest.fixture(scope="module")
def number(local: Local) -> str:
    """A case that is published, with a mail, and the catalogues of it."""
    import asyncio

    return asyncio.run(_published(local, Institution(NAME, email=EMAIL), lecture("案卷里的讲座")))


@pytest.fixture(scope="module")
def card(local: Local) -> str:
    """Another, of a form that is a card; of it the notice shows nothing to everybody."""
    import asyncio

    return asyncio.run(_published(local, Institution("", code="440106"), COMPANY, form="F9-2"))


@pytest.fixture(scope="module")
def shown(local: Local) -> str:
    """And one of a card of which everybody may see a part."""
    import asyncio

    return asyncio.run(_published(local, Institution("案例测试机构"), APPLICATION, form="F10-1"))


async def _published(local: Local, who: Institution, values: dict[str, Any], **more: Any) -> str:
    async with bus(local) as b:
        filed = await b.file(who, values, **more)
        for outcome in ("accept", "select", "publish"):
            assert "accepted" in await b.decide(CITY, filed["case"], outcome)
        await eventually(
            lambda: b.db.fetchval('select shown from export."row" where "case" = $1', UUID(filed["case"])), 60
        )

        async def rests() -> bool:
            sql = (
                "select (select count(*) from export.stale) + (select count(*) from notify.mail "
                "where state in ('queued', 'claimed', 'data')) + (select count(*) from notify.outbox)"
            )
            return not await b.db.fetchval(sql)

        await eventually(rests, 120, "catalogues and mails")
        found = await b.db.fetchval('select number from review."case" where "case" = $1', UUID(filed["case"]))
        return str(found)


def collected(local: Local, out: Path, *more: str) -> dict[str, Any]:
    status, said = ended(local, "catalogue", "collect", "--notice", NOTICE, "--out", out, "--json", *more)
    assert status == 0, said
    return dict(json.loads(said))


def contents(path: str | Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


# --- a round ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("public", [False, True])
def test_a_round_is_a_folder_and_a_zip_of_the_announced_files(
    local: Local, number: str, tmp_path: Path, public: bool
) -> None:
    made = collected(local, tmp_path, *(["--public"] if public else []))
    files = contents(made["zip"])
    assert sha256(Path(made["zip"]).read_bytes()).hexdigest() == made["sha256"]
    folder = Path(made["folder"])
    assert {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()} == files
    manifest = json.loads(files["manifest.json"])
    assert manifest["notice"]["sha256"] == load_all()[NOTICE].digest
    assert manifest["notice"]["number"] == load_all()[NOTICE].notice.number
    assert (manifest["published_by"]["code"], manifest["public"]) == (CITY, public)
    (one,) = [c for c in manifest["catalogues"] if c["form"] == "F3"]
    assert (one["rows"], one["version"], one["annex"]) == (1, 1, "附件3")
    assert len(one["files"]) == len(FORMATS)
    told = {file["name"]: file["sha256"] for c in manifest["catalogues"] for file in c["files"]}
    assert told == {
        name: sha256(data).hexdigest()
        for name, data in files.items()
        if name not in ("manifest.json", "SHA256SUMS")
    }
    book = load_workbook(
        BytesIO(next(files[n] for n in told if n.endswith(".xlsx") and n.startswith("附件3")))
    )
    cells = [str(cell) for row in book.worksheets[0].iter_rows(values_only=True) for cell in row]
    assert "案卷里的讲座" in cells
    assert any(PHONE in cell for cell in cells) is not public


def test_the_same_catalogues_are_the_same_zip_and_it_is_checked(
    local: Local, number: str, tmp_path: Path
) -> None:
    one, two = (collected(local, tmp_path / name) for name in ("a", "b"))
    assert one["sha256"] == two["sha256"]
    for path in (one["zip"], one["folder"]):
        status, said = ended(local, "catalogue", "collect", "--check", path)
        assert (status, "完好" in said) == (0, True), said
    again, said = ended(local, "catalogue", "collect", "--notice", NOTICE, "--out", tmp_path / "a")
    assert (again, "从不覆盖" in said) == (2, True)


def test_a_changed_folder_and_a_changed_zip_are_told(local: Local, number: str, tmp_path: Path) -> None:
    made = collected(local, tmp_path)
    workbook = next(Path(made["folder"]).glob("*.xlsx"))
    workbook.write_bytes(workbook.read_bytes() + b" ")
    archive = Path(made["zip"])
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 1
    archive.write_bytes(content)
    for path in (made["folder"], made["zip"]):
        assert ended(local, "catalogue", "collect", "--check", path)[0] == 1


def test_nothing_is_collected_that_is_being_made_or_is_not_what_was_announced(
    local: Local, number: str, tmp_path: Path
) -> None:
    def refused(said: str) -> bool:
        status, told = ended(local, "catalogue", "collect", "--notice", NOTICE, "--out", tmp_path)
        return status == 1 and said in told and not list(tmp_path.iterdir())

    later = "now() + interval '1 day'"  # for export's sweep it is not due
    local.postgres.sql(
        "insert into export.stale (notice, form, n, since, touched, fact, by, event) "
        f"values ('{NOTICE}', 'F3', 1, {later}, {later}, 'case.published', '{CITY}', gen_random_uuid())",
        "yiqi",
    )
    assert refused("正在更新")
    local.postgres.sql("delete from export.stale", "yiqi")
    other = 'replace(files::text, \'"sha256": "\', \'"sha256": "f\')::jsonb'
    kept = local.postgres.sql("select files from export.catalogue where form = 'F3' and not public", "yiqi")
    local.postgres.sql(
        f"update export.catalogue set files = {other} where form = 'F3' and not public", "yiqi"
    )
    assert refused("摘要不符")
    local.postgres.sql(
        f"update export.catalogue set files = '{kept.strip()}' where form = 'F3' and not public", "yiqi"
    )
    collected(local, tmp_path)  # control


def test_versions_are_listed_with_what_led_to_them(local: Local, number: str) -> None:
    status, said = ended(local, "catalogue", "versions", "--notice", NOTICE, "--form", "F3", "--json")
    assert status == 0
    assert [(v["version"], v["rows"], v["fact"], v["by"], v["public"]) for v in json.loads(said)] == [
        (1, 1, registry.CASE_PUBLISHED.name, CITY, False),
        (1, 1, registry.CASE_PUBLISHED.name, CITY, True),
    ]


def texts(docx_: bytes) -> str:
    with zipfile.ZipFile(BytesIO(docx_)) as archive:
        return "".join(re.findall("<w:t[ >][^<]*", archive.read("word/document.xml").decode()))


def test_every_published_card_is_in_it_and_for_everybody_only_what_the_notice_names(
    local: Local, number: str, card: str, shown: str, tmp_path: Path
) -> None:
    files = contents(collected(local, tmp_path / "a")["zip"])
    manifest = json.loads(files["manifest.json"])
    assert [(one["form"], one["number"]) for one in manifest["cards"]] == [("F10-1", shown), ("F9-2", card)]
    assert [one["name"] for one in manifest["cards"][1]["files"]] == [
        f"{CARD}/{card}.docx",
        f"{CARD}/{card}.pdf",
    ]
    assert {one["published_on"] for one in manifest["cards"]} == {manifest["published_on"]}
    assert files[f"{CARD}/{card}.pdf"].startswith(b"%PDF")
    said = texts(files[f"{CARD}/{card}.docx"])
    assert all(text in said for text in ("推荐企业名称", "甲公司", "020-" + PHONE, "注：如推荐多家企业"))
    for_all = contents(collected(local, tmp_path / "b", "--public")["zip"])
    (name,) = (one for one in for_all if one.endswith(".docx") and shown in one)
    assert "（公开）" in name
    assert not [one for one in for_all if card in one]
    said = texts(for_all[name])
    assert TITLE in said
    assert not any(text in said for text in ("020-" + PHONE, "a@b.cn", "张三", "91110000600037341L"))
    again = collected(local, tmp_path / "c")["sha256"]
    assert again == sha256(Path(tmp_path / "a" / f"{NOTICE}.zip").read_bytes()).hexdigest()


# --- a case ----------------------------------------------------------------------------------------------


def frozen(local: Local, number: str, path: Path, *more: str) -> tuple[dict[str, bytes], str]:
    status, said = ended(local, "case", "dossier", number, "--out", path, "--json", *more)
    assert status == 0, said
    return contents(path), str(json.loads(said)["sha256"])


def test_a_dossier_has_the_case_its_history_and_its_mails(local: Local, number: str, tmp_path: Path) -> None:
    files, digest = frozen(local, number, tmp_path / "a.zip")
    assert frozen(local, number, tmp_path / "b.zip")[1] == digest
    manifest = json.loads(files["manifest.json"])
    history = json.loads(files["history.json"])
    assert [line["outcome"] for line in history] == ["file", "accept", "select", "publish"]
    assert (manifest["number"], manifest["history_head"], manifest["contacts"]) == (
        number,
        history[-1]["hash"],
        False,
    )
    assert json.loads(files["submission.json"])[0]["values"]["activity_name"] == "案卷里的讲座"
    assert json.loads(files["mails.json"])
    assert files["经过.csv"].startswith(b"\xef\xbb\xbf")
    assert len(files["经过.csv"].decode().splitlines()) == 5
    status, said = ended(local, "case", "dossier", "--check", tmp_path / "a.zip")
    assert (status, "完好" in said) == (0, True), said


def test_contact_data_is_in_it_only_when_asked_for(local: Local, number: str, tmp_path: Path) -> None:
    """Documents are packed: of them another test."""
    without = b"".join(frozen(local, number, tmp_path / "a.zip")[0].values()).decode(errors="ignore")
    assert PHONE not in without
    assert EMAIL not in without
    more = frozen(local, number, tmp_path / "b.zip", "--contacts")[0]  # control
    with_ = b"".join(more.values()).decode(errors="ignore")
    assert PHONE in with_
    assert EMAIL in with_


def test_what_was_filed_is_in_it_as_its_annex_prints_it(
    local: Local, number: str, card: str, tmp_path: Path
) -> None:
    for case, name in ((number, "附件3-广州市2025年第一季度中小企业服务活动清单"), (card, CARD)):
        less, _ = frozen(local, case, tmp_path / f"{case}.zip")
        more, _ = frozen(local, case, tmp_path / f"{case}-all.zip", "--contacts")
        assert {f"{name}.docx", f"{name}.pdf"} <= less.keys() & more.keys()
        assert (PHONE in texts(less[f"{name}.docx"]), PHONE in texts(more[f"{name}.docx"])) == (False, True)


def test_a_case_is_printed_by_itself(local: Local, card: str, tmp_path: Path) -> None:
    asked = ("case", "document", card, "--json", "--out", tmp_path)
    status, said = ended(local, *asked, "--contacts")
    assert status == 0, said
    files = {Path(path).name: Path(path).read_bytes() for path in json.loads(said)["files"]}
    assert set(files) == {f"{card}-{CARD}.{ending}" for ending in ("docx", "pdf")}
    assert PHONE in texts(files[f"{card}-{CARD}.docx"])
    assert ended(local, *asked)[0] == 2  # never written over
    assert ended(local, "case", "document", "F9-2-NONE", "--out", tmp_path)[0] == 2


def test_the_cases_of_a_round_are_summed_up_as_their_district_sends_them(
    local: Local, number: str, tmp_path: Path
) -> None:
    """附件1 of the stations' notice, which nobody files; with a case put in, as that round was over years ago."""
    values = load_all()[STATIONS].forms["F12"].judge(STATION_FORM).stored
    assert values
    one: dict[str, Any] = {
        "number": "F12-1",
        "notice": STATIONS,
        "form": "F12",
        "stage": "recommendation",
        "district": "440106",
    }
    one |= {"case": str(uuid4()), "values": values, "package": None}
    out = {**one, "case": str(uuid4()), "number": "F12-2", "stage": "withdrawn"}
    for case in (one, out):
        local.postgres.sql(
            'insert into review."case" select (jsonb_populate_record(c, $json$'
            f"{json.dumps(case)}$json$)).* from review.\"case\" c where number = '{number}'",
            "yiqi",
        )
    asked = ("catalogue", "summary", "--notice", STATIONS, "--json", "--out", tmp_path, "--form")
    try:
        status, said = ended(local, *asked, "F13", "--district", "440106", "--on", "2019-06-20")
        assert status == 0, said
        told = json.loads(said)
        assert (told["rows"], len(told["files"])) == (1, len(FORMATS))
        text = texts(next(Path(f).read_bytes() for f in told["files"] if f.endswith(".docx")))
        assert all(part in text for part in (values["station_name"], "天河区", "填报日期：2019年6月20日"))
        assert values["head_name"] not in text
        assert ended(local, *asked, "F13", "--district", "440103")[0] == 1
        assert ended(local, *asked, "F99")[0] == 2
    finally:
        local.postgres.sql(f"delete from review.\"case\" where notice = '{STATIONS}'", "yiqi")


def test_who_may_not_read_contact_data_gets_no_dossier_with_it(
    local: Local, number: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.postgres.sql("create role clerk login password 'test' in role yiqi_reader", "yiqi")
    # Of the history this clerk may read all, of contacts, files and mails nothing.
    local.postgres.sql(
        'grant select on review."case", review.history, review.filing, review.refusal to clerk', "yiqi"
    )
    environment = {**local.environment, "YIQI_DATABASE_URL": local.postgres.dsn("yiqi", "clerk", "test")}
    monkeypatch.setattr(type(local), "environment", environment)
    assert ended(local, "case", "dossier", number, "--out", tmp_path / "a.zip")[0] == 0
    status, said = ended(local, "case", "dossier", number, "--out", tmp_path / "b.zip", "--contacts")
    assert (status, "不允许" in said, (tmp_path / "b.zip").exists()) == (1, True, False)


def test_no_such_case(local: Local, number: str, tmp_path: Path) -> None:
    assert ended(local, "case", "dossier", "F3-NONE", "--out", tmp_path / "a.zip")[0] == 2


# --- lists -----------------------------------------------------------------------------------------------


def test_the_final_list_is_written_as_a_document(local: Local, number: str, tmp_path: Path) -> None:
    asked = ("catalogue", "document", "--notice", NOTICE, "--on", "2025-03-19", "--json", "--out")
    status, said = ended(local, *asked, tmp_path)
    assert status == 0, said
    files = {Path(path).suffix: Path(path) for path in json.loads(said)["files"]}
    assert set(files) == {".docx", ".pdf"}
    text = "\n".join(paragraph.text for paragraph in docx.Document(str(files[".docx"])).paragraphs)
    assert "2025年3月19日" in text
    assert "中小企业服务活动清单（1项）" in text
    status, said = ended(local, *asked, tmp_path, "--kind", "proposed")
    assert (status, "没有公示" in said) == (1, True)
