"""Who may tell what of an enterprise, and what must agree in it."""

import json
from datetime import date
from typing import Any

import pytest
from pydantic import ValidationError

from services.intake.enterprises import Told, faults, may_not
from shared.contracts.enterprise import InvestmentApproved, TitleGranted
from shared.notices.directory import Directory
from tests.goldens import golden

DIRECTORY = Directory.load()
TODAY = date(2025, 9, 15)
CITY, HUANGPU, TIANHE = "440100", "440112", "440106"
DEPARTMENT = DIRECTORY.of_kind("K1")[0].code


def shown(name: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(golden(f"cn.gov.gz.sme.{name}.v1").read_bytes())["data"]
    return data


def title(**more: Any) -> TitleGranted:
    return TitleGranted.model_validate_json(json.dumps({**shown("title.granted"), **more}), strict=True)


def investment(**more: Any) -> InvestmentApproved:
    return InvestmentApproved.model_validate_json(
        json.dumps({**shown("investment.approved"), **more}), strict=True
    )


@pytest.mark.parametrize(
    ("data", "publisher", "may"),
    [
        (title(), CITY, True),
        (title(), HUANGPU, True),
        (title(), TIANHE, False),  # another district's enterprise
        (title(), DEPARTMENT, False),
        (title(), "k6-nobody", False),
        (investment(), CITY, True),
        (investment(), DEPARTMENT, True),
        (investment(), HUANGPU, True),
        (investment(), TIANHE, False),
        (investment(), "k6-nobody", False),
        (investment(district=TIANHE), TIANHE, True),
    ],
)
def test_who_may_tell_it(data: Told, publisher: str, may: bool) -> None:
    wrong = may_not(data, publisher, DIRECTORY)
    assert (wrong is None) is may
    assert wrong is None or (wrong.status, wrong.title_en) == (403, "Not authorised")


OTHER = {"uscc": "91440101MA5EXAMP1L", "name": "广州示例精密制造有限公司"}  # the last character is K
NAMED = {"uscc": "91440101MA5EXAMP1K", "name": "甲"}


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (title(), {}),
        (investment(), {}),
        (title(enterprise=OTHER), {"R-GEN-001.check": "#/data/enterprise/uscc"}),
        (investment(enterprise=OTHER), {"R-GEN-001.check": "#/data/enterprise/uscc"}),
        (title(enterprise=NAMED), {}),
        (title(district="440199"), {"district.unknown": "#/data/district"}),
        (title(district=CITY), {"district.unknown": "#/data/district"}),  # no enterprise is in no district
        (title(valid_until="2025-08-31"), {"date.order": "#/data/valid_until"}),
        (title(valid_until="2025-09-01"), {}),
        (title(granted_on="2025-09-16"), {"date.future": "#/data/granted_on"}),
        (title(granted_on="2025-09-15"), {}),
        (title(reviewed_on="2025-09-16"), {"date.future": "#/data/reviewed_on"}),
        (title(valid_from="2026-01-01", valid_until=None), {}),
        (investment(approved_on="2025-09-16"), {"date.future": "#/data/approved_on"}),
        (investment(investment=None), {}),
        (investment(equipment=None), {}),
        (investment(investment=None, equipment=None), {"amount.missing": "#/data/investment"}),
    ],
)
def test_what_must_agree(data: Told, found: dict[str, str]) -> None:
    wrong = list(faults(data, TODAY, DIRECTORY))
    assert {f.code: f.pointer for f in wrong} == found
    assert not any(OTHER["uscc"] in f.detail for f in wrong)


@pytest.mark.parametrize("amount", ["0", "0.01", "1200.5", "9999999999.999999"])
def test_an_amount_is_a_decimal_text(amount: str) -> None:
    assert investment(equipment=amount).equipment == amount


@pytest.mark.parametrize(
    "amount", ["", "-1", "01", "1.", "1e3", ".5", "1,000", "1200.5万元", 1200.5, 1, "12345678901"]
)
def test_what_is_no_amount_is_refused(amount: object) -> None:
    with pytest.raises(ValidationError) as refused:
        investment(equipment=amount)
    assert {e["loc"] for e in refused.value.errors()} == {("equipment",)}


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"title": "unicorn"}, ("title",)),
        ({"title": None}, ("title",)),
        ({"enterprise": {"uscc": "91440101ma5examp1k", "name": "甲"}}, ("enterprise", "uscc")),
        ({"enterprise": {"uscc": "91440101MA5EXAMP1", "name": "甲"}}, ("enterprise", "uscc")),
        ({"enterprise": {**NAMED, "phone": "13800138000"}}, ("enterprise", "phone")),
        ({"granted_on": "2025-09-31"}, ("granted_on",)),
        ({"granted_on": "2025-09-01T00:00:00"}, ("granted_on",)),
        ({"level": 1}, ("level",)),
    ],
)
def test_a_title_is_to_the_letter_of_its_contract(change: dict[str, Any], where: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError) as refused:
        title(**change)
    assert [e["loc"] for e in refused.value.errors()] == [where]
