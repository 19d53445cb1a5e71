"""How moments, days, ids and numbers are spelled: one table of what is read, by the model, the schema and Python alike.

Whole documents are in `test_schemas.py`.
"""

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel, ValidationError

from shared.contracts.scalars import DAY, Day, Id, Json, Moment, Number, Whole
from shared.contracts.schemas import of_model
from shared.contracts.types import Outbound


class Read(Outbound):
    moment: Moment | None = None
    day: Day | None = None
    id: Id | None = None
    number: Number | None = None
    whole: Whole | None = None
    json_: Json | None = None


@cache
def schema() -> Draft202012Validator:
    return Draft202012Validator(of_model(Read, "urn:x"))


UUID = "0b6a7c1e-2f4d-5a89-9c3e-7d1f60a2b845"
GOOD = {
    "moment": ['"2025-03-05T09:30:00Z"', '"2025-03-05T09:30:00+08:00"', '"2024-02-29T23:59:59.123456789-11:30"',
               '"1000-01-01T00:00:00+23:59"', '"2999-12-31T23:59:59.9Z"'],
    "day": ['"2025-03-05"', '"2024-02-29"', '"2000-02-29"', '"9999-12-31"'],
    "id": [f'"{UUID}"', f'"{UUID.upper()}"'],
    "number": ["1", "-1.5", "1e3", "0.1", '"12.50"', '"-0.0000000001"', "999999999999", "1E-30"],
    "whole": ["0", "1.0", "-3", "9007199254740991", "1e3"],
    "json_": ["{}", '{"a": [1, null, true, {"b": "x"}], "c": 1e308}'],
}  # fmt: skip
BAD = {
    "moment": ["0", '"0"', '"1741138200"', '"2025-03-05"', '"2025-03-05T09:30:00"', '"2025-03-05 09:30:00Z"', "true",
               '"2025-03-05t09:30:00z"', '"2025-03-05T09:30Z"', '"2025-03-05T09:30:00+0800"', '"2025-02-29T00:00:00Z"',
               '"2025-03-05T24:00:00Z"', '"2025-03-05T23:59:60Z"', '"2025-03-05T09:30:00+24:00"', '""', "[]",
               '"0999-01-01T00:00:00Z"', '"3000-01-01T00:00:00Z"', '"2025-03-05T09:30:00.Z"',
               '"2025-03-05T09:30:00.1234567890Z"', '"2025-03-05T09:30:00Z\\n"', '"２025-03-05T09:30:00Z"'],
    "day": ["0", '"0"', '"20250305"', '"2025-3-5"', '"2025-02-29"', '"1900-02-29"', '"2025-04-31"', '"2025-13-01"',
            '"2025-03-05T00:00:00"', '"0000-01-01"', '"2025-03-05\\n"', '" 2025-03-05"', '"1741132800"'],
    "id": ["0", '""', f'"{UUID.replace("-", "")}"', f'"{{{UUID}}}"', f'"urn:uuid:{UUID}"', f'"{UUID}\\n"', f'"{UUID[:-1]}g"'],
    "number": ['""', '" 1"', '"1_0"', '"1e3"', '"NaN"', '"１"', '".5"', '"1."', '"+1"', '"1\\n"', "true", "[]",
               "1000000000000", "1e400", "-1e12", '"1000000000000"', '"1,000"'],
    "whole": ["1.5", '"1"', "true", "9007199254740992", "-9007199254740992", "1e400", "1e300", "[]"],
    "json_": ["[]", "1", '{"a": 1e400}', '{"a": {"b": [-1e400]}}'],
}  # fmt: skip


def read(field: str, text: str) -> Any:
    return getattr(Read.model_validate_json(f'{{"{field}": {text}}}', strict=True), field)


@pytest.mark.parametrize(("field", "text"), [(f, t) for f, texts in GOOD.items() for t in texts])
def test_what_is_well_written_is_read_and_its_schema_says_so(field: str, text: str) -> None:
    assert read(field, text) is not None
    assert schema().is_valid({field: json.loads(text)})


@pytest.mark.parametrize(("field", "text"), [(f, t) for f, texts in BAD.items() for t in texts])
def test_what_is_written_otherwise_is_refused_by_both(field: str, text: str) -> None:
    with pytest.raises(ValidationError) as refused:
        read(field, text)
    assert refused.value.errors()[0]["loc"][0] == field
    assert not schema().is_valid({field: json.loads(text)})


def test_the_pattern_of_a_day_is_the_calendar() -> None:
    """Every day of eight centuries, and the days beside the ends of its months."""
    pattern = Draft202012Validator({"pattern": DAY})
    first, last = date(1600, 1, 1), date(2400, 12, 31)
    there = {(first + timedelta(n)).isoformat() for n in range(0, (last - first).days + 1, 7)}
    there |= {f"{y}-02-29" for y in range(1600, 2401) if (y % 4 == 0 and y % 100) or y % 400 == 0}
    assert all(pattern.is_valid(day) for day in there)
    missing = [f"{y}-02-29" for y in range(1600, 2401) if (y % 4 or y % 100 == 0) and y % 400]
    missing += [
        f"2025-{m:02}-{d:02}" for m, d in ((0, 1), (13, 1), (1, 0), (1, 32), (4, 31), (2, 30), (12, 32))
    ]
    assert [day for day in missing if pattern.is_valid(day)] == []


def test_what_is_written_is_read_again() -> None:
    made = Read(
        moment=datetime(2025, 3, 5, 1, 30, 0, 5, tzinfo=UTC),
        day=date(2025, 3, 5),
        number=Decimal("1.000E-7"),
        whole=7,
        json_={"a": 1},
    )
    body = made.model_dump_json(exclude_none=True)
    assert Read.model_validate_json(body, strict=True) == made
    assert json.loads(body)["number"] == "0.0000001000"
    assert schema().is_valid(json.loads(body))


def test_the_place_of_what_is_no_number_is_told() -> None:
    with pytest.raises(ValidationError) as refused:
        read("json_", '{"a": {"b": [1, NaN]}, "c": Infinity}')
    assert [e["loc"] for e in refused.value.errors()] == [("json_", "a", "b", 1), ("json_", "c")]


def test_pydantic_alone_would_read_more() -> None:
    """The negative control: why these types are ours."""

    class Theirs(BaseModel):
        moment: datetime | None = None
        day: date | None = None
        number: Decimal | None = None

    for field in ("moment", "day", "number"):
        taken = []
        for text in BAD[field]:
            try:
                Theirs.model_validate_json(f'{{"{field}": {text}}}', strict=True)
            except ValidationError:
                continue
            taken.append(text)
        assert taken, field
