"""Whose systems hear of a case, and what they hear: no contact data, and nothing that anybody has written."""

import json

import pytest

from services.review.telling import listeners, moved
from shared.contracts import registry
from shared.contracts.case import CaseChanged, CaseMoved
from shared.contracts.registry import CASE_EVENTS, EventType
from shared.notices.directory import Directory
from tests.goldens import golden
from tests.unit.test_decide import AT, case

CITY, TIANHE, YUEXIU, SOCIETY = "440100", "440106", "440104", "gsl"


@pytest.mark.parametrize("type_", CASE_EVENTS, ids=lambda e: e.name)
def test_what_is_told_is_where_it_stands(type_: EventType) -> None:
    told = type_.payload.model_validate(json.loads(golden(type_.ce_type).read_bytes())["data"])
    assert isinstance(told, CaseChanged)
    out = json.loads(registry.CASE_MOVED.wire(moved(told), "x", at=AT)[1])["data"]
    whole = json.loads(told.model_dump_json())
    assert set(out) <= set(CaseMoved.model_fields)
    assert {k: v for k, v in out.items() if k != "filer"} == {
        k: whole[k] for k in CaseMoved.model_fields if k != "filer" and whole[k] is not None
    }
    assert out["filer"] == {"code": told.filer.code, "name": told.filer.name}
    assert told.filer.email
    assert told.filer.email not in json.dumps(out)


def test_nothing_free_or_personal_is_in_it() -> None:
    """A new field of a case is not told until somebody decides that."""
    kept_back = set(CaseChanged.model_fields) - set(CaseMoved.model_fields)
    assert kept_back == {
        "unit", "reason", "rules", "acknowledges", "fixes", "package", "changed", "duty", "period", "score", "awaits",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("district", "recommender", "listening", "heard"),
    [
        (TIANHE, None, (), []),
        (TIANHE, None, (YUEXIU,), []),
        (TIANHE, None, (TIANHE, YUEXIU), [TIANHE]),
        (TIANHE, TIANHE, (TIANHE,), [TIANHE]),  # once, though it is both
        (TIANHE, SOCIETY, (SOCIETY, TIANHE, YUEXIU), [TIANHE, SOCIETY]),
        (TIANHE, None, (CITY,), [CITY]),
        (CITY, None, (CITY,), [CITY]),
    ],
)
def test_who_hears_it(
    district: str, recommender: str | None, listening: tuple[str, ...], heard: list[str]
) -> None:
    one = case(district=district, recommender=recommender)
    assert list(listeners(one, CITY, listening)) == heard


def test_nobody_listens_by_default() -> None:
    assert [one.code for one in Directory.load().agencies if one.listens] == []
