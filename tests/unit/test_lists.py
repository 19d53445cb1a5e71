"""The lists as documents: what is on them, what they say of terms, and that they say nothing no source or case has."""

import random
from dataclasses import replace
from datetime import date

import pytest

from services.export.lists import DRAFT, Entry, NoList, document, stages
from services.export.official import Document, Table
from shared.notices.load import load_all

CLUSTERS = load_all()["gz-clusters"].notice
COLLECTION = load_all()["gz-collection-2025q1"].notice
STATIONS = load_all()["gz-stations-2019"].notice
ISSUER, ON = "广州市工业和信息化局", date(2025, 6, 3)
BEGAN, DUE = date(2025, 6, 3), date(2025, 6, 12)

ONE = Entry("F15-0001", "F15", "某某产业集群", "某某促进会", "花都区", "public_notice", BEGAN, DUE)
TWO = replace(ONE, number="F15-0002", title="另一产业集群", district="番禺区")


def proposed(*entries: Entry) -> Document:
    return document(CLUSTERS, "proposed", entries, issuer=ISSUER, unit=None, on=ON)


def test_a_proposed_list_has_its_term_its_items_and_who_hears_objections() -> None:
    made = proposed(ONE, TWO)
    assert made == Document(
        title=f"关于《{CLUSTERS.title}》拟定名单的公示",
        paragraphs=(
            f"根据《{CLUSTERS.title}》（指引 3.3.2），现将拟定名单（共2项）予以公示。",
            "公示时间：2025年6月3日至2025年6月12日（7个工作日）。",
            f"公示期间如有异议，请向{ISSUER}反映。",
        ),
        signature=ISSUER,
        date=ON,
        tables=(
            Table(
                ("序号", "名称", "单位", "所在区"),
                (
                    ("1", "某某产业集群", "某某促进会", "花都区"),
                    ("2", "另一产业集群", "某某促进会", "番禺区"),
                ),
            ),
        ),
        note=DRAFT,
    )


def test_the_same_cases_in_any_order_are_the_same_document() -> None:
    entries = [replace(ONE, number=f"F15-{n:04}", title=f"集群{n}") for n in range(20)]
    shuffled = random.Random(1).sample(entries, len(entries))
    assert proposed(*entries) == proposed(*shuffled)


def test_terms_that_differ_stand_with_each_item() -> None:
    made = proposed(ONE, replace(TWO, due=date(2025, 6, 20)))
    assert "分别至表中所列日期止" in made.paragraphs[1]
    assert [row[-1] for row in made.tables[0].rows] == ["2025年6月12日", "2025年6月20日"]


def test_a_provisional_date_says_so() -> None:
    assert "暂定" in "".join(proposed(replace(ONE, provisional=True)).paragraphs)
    assert "暂定" not in "".join(proposed(ONE).paragraphs)


def test_what_is_in_another_stage_is_on_no_proposed_list() -> None:
    others = [replace(ONE, stage=s.id) for s in CLUSTERS.procedure.stages if s.id != "public_notice"]
    with pytest.raises(NoList, match="没有正在公示的项目"):
        proposed(*others)
    assert proposed(ONE, *others) == proposed(ONE)


def test_a_final_list_of_titles_has_until_when_they_are_valid() -> None:
    title = replace(ONE, stage="recognised", due=date(2028, 6, 13))
    lasting = replace(TWO, stage="automatic", due=None)
    gone = replace(ONE, number="F15-0003", stage="revoked")
    made = document(CLUSTERS, "final", [gone, lasting, title], issuer=ISSUER, unit=None, on=ON)
    assert made.tables == (
        Table(
            ("序号", "名称", "单位", "所在区", "有效期至"),
            (
                ("1", "某某产业集群", "某某促进会", "花都区", "2028年6月13日"),
                ("2", "另一产业集群", "某某促进会", "番禺区", ""),
            ),
        ),
    )
    assert made.annexes == ()


def test_a_final_list_of_a_collection_names_its_catalogues_and_tables_the_cards() -> None:
    rows = [Entry(f"F5-{n}", "F5", "某产品", "某机构", "", "published") for n in range(3)]
    card = Entry("F10-1-1", "F10-1", "某案例", "某公司", "天河区", "published")
    made = document(COLLECTION, "final", [*rows, card], issuer=ISSUER, unit=None, on=ON)
    assert made.annexes == (f"{COLLECTION.form_title(COLLECTION.by_form['F5'])}（3项）",)
    assert [row[1] for row in made.tables[0].rows] == ["某案例"]
    assert made.paragraphs == (f"根据《{COLLECTION.title}》（征集通知·二·4），现将名单（共4项）予以公布。",)


def test_a_procedure_without_public_notice_has_no_such_list() -> None:
    assert [len(stages(notice, "proposed")) for notice in (CLUSTERS, COLLECTION, STATIONS)] == [1, 0, 0]
    with pytest.raises(NoList, match="没有公示"):
        document(COLLECTION, "proposed", [ONE], issuer=ISSUER, unit=None, on=ON)
