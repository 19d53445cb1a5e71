"""How a moment, a day, a number and an id are written in an event: read to the letter of what the published schema says.

Which event has which is not here. pydantic's own types read more than any schema tells (`1741141800` as a moment, ` 1_0 ` as
a number) and sometimes less (JSON knows no difference between 1 and 1.0): a publisher who validates must get our verdict.
"""

import re
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from sys import float_info
from typing import Annotated, Any
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    Field,
    PlainSerializer,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import InitErrorDetails, PydanticCustomError


# No look-around and no class that differs by language: the engines of Go and Rust must take these patterns, too.
def _calendar(first: str, centuries: str) -> str:
    """Every day that there is, and no 30 February, of the years that begin with `first`."""
    common = (
        "((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)"
        "|02-(0[1-9]|1[0-9]|2[0-8]))"
    )
    leap = f"({first}[0-9](0[48]|[2468][048]|[13579][26])|({centuries})00)-02-29"
    return f"({first}[0-9]{{3}}-{common}|{leap})"


_CLOCK = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?"
_ZONE = "(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
_UNZONED = f"{_calendar('[12]', '1[26]|2[048]')}T{_CLOCK}"

MOMENT = f"^{_UNZONED}{_ZONE}$"
"""RFC 3339 with an offset, as far as Python and PostgreSQL know time: no leap second, no year that leaves their calendar
in another zone."""
DAY = f"^{_calendar('[1-9]', '[2468][048]|[13579][26]')}$"
ID = "^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$"
NUMBER = r"^-?[0-9]{1,12}(\.[0-9]{1,20})?$"

SAFE = 2**53 - 1
"""The largest whole number that every JSON library keeps (RFC 8259, 6)."""
MAX = float_info.max
BOUND = 10**12
"""No figure of a notice comes near: what is as large has a wrong unit."""

_moment, _unzoned, _day, _id, _number = (
    re.compile(p.removeprefix("^").removesuffix("$")).fullmatch for p in (MOMENT, _UNZONED, DAY, ID, NUMBER)
)


def _as_moment(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if _moment(value):
        return datetime.fromisoformat(value)
    if _unzoned(value):
        raise PydanticCustomError("timezone_aware", "a moment needs its offset")
    raise PydanticCustomError("datetime_parsing", "a moment is written as in RFC 3339")


def _as_day(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if not _day(value):
        raise PydanticCustomError("date_parsing", "a day is written as in RFC 3339")
    return date.fromisoformat(value)


def _as_id(value: Any) -> Any:
    if isinstance(value, str) and not _id(value):
        raise PydanticCustomError("uuid_parsing", "an id is written as in RFC 9562")
    return value


def _as_number(value: Any) -> Any:
    if isinstance(value, str):
        if not _number(value):
            raise PydanticCustomError(
                "decimal_parsing", "a number is written as in JSON, without an exponent"
            )
        return Decimal(value)
    if isinstance(value, bool):
        raise PydanticCustomError("decimal_type", "true and false are no numbers")
    return Decimal(str(value)) if isinstance(value, (int, float)) else value


def _written(value: Decimal) -> str:
    """As it is read: Python itself would write a small one as 1E-7."""
    return f"{value:f}"


def integral(value: Any) -> Any:
    """For a whole number with bounds of its own: 1.0 is 1."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _strange(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
    if isinstance(value, (int, float)):
        # Also a whole number that is infinite to whoever reads numbers as JavaScript does.
        if not -MAX <= value <= MAX:
            yield path
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from _strange(one, (*path, key))
    elif isinstance(value, list):
        for n, one in enumerate(value):
            yield from _strange(one, (*path, n))


def _finite(value: dict[str, Any]) -> bool:
    """The same question without places: of each row that is filed, and nearly always yes."""
    open_: list[Any] = [value]
    while open_:
        one = open_.pop()
        for inner in one.values() if isinstance(one, dict) else one:
            kind = inner.__class__
            if kind is dict or kind is list:
                open_.append(inner)
            elif (kind is float or kind is int) and not -MAX <= inner <= MAX:
                return False
    return True


def _as_json(value: Any) -> Any:
    if _finite(value):
        return value
    if found := [InitErrorDetails(type="finite_number", loc=p, input=None) for p in _strange(value, ())]:
        raise ValidationError.from_exception_data("Json", found)
    return value


Moment = Annotated[
    AwareDatetime,
    BeforeValidator(_as_moment),
    WithJsonSchema({"type": "string", "format": "date-time", "pattern": MOMENT}),
]
Day = Annotated[
    date,
    BeforeValidator(_as_day),
    WithJsonSchema({"type": "string", "format": "date", "pattern": DAY, "maxLength": 10}),
]
Id = Annotated[
    UUID,
    BeforeValidator(_as_id),
    WithJsonSchema({"type": "string", "format": "uuid", "pattern": ID, "maxLength": 36}),
]
Number = Annotated[
    Decimal,
    Field(gt=-BOUND, lt=BOUND),
    BeforeValidator(_as_number),
    PlainSerializer(_written, when_used="json"),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": -BOUND, "exclusiveMaximum": BOUND},
                {"type": "string", "pattern": NUMBER},
            ]
        }
    ),
]
"""A figure: in JSON a number, or a text of digits for those who would lose some."""
Whole = Annotated[int, Field(ge=-SAFE, le=SAFE), BeforeValidator(integral)]
Json = Annotated[dict[str, Any], AfterValidator(_as_json)]
"""An object of whatever JSON can say and PostgreSQL can keep."""
