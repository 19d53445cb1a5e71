"""Documents made from a published JSON Schema: good ones, and ones with something changed in one place.

Only what pydantic writes into a schema is known here; `hypothesis-jsonschema` does not work with today's hypothesis.
"""

import copy
import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

from hypothesis import strategies as st

Strategy = st.SearchStrategy[Any]

_SIGNS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
_TEXT = st.text(_SIGNS, max_size=20)
ANYTHING: Strategy = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=6,
)
_ANY_TEXT = r"^[^\x00]*$"
_FORMATS: dict[str, Strategy] = {
    "date-time": st.builds(
        lambda at, minutes: at.replace(tzinfo=timezone(timedelta(minutes=15 * minutes))).isoformat(),
        st.datetimes(datetime(1970, 1, 2), datetime(2199, 1, 1)),  # noqa: DTZ001
        st.integers(-48, 56),
    ),
    "date": st.dates().map(str),
    "uuid": st.uuids().map(str),
}


def good(schema: dict[str, Any], root: dict[str, Any] | None = None) -> Strategy:
    """Values that the schema allows."""
    root = root or schema
    if "$ref" in schema:
        return st.deferred(lambda: good(root["$defs"][schema["$ref"].rpartition("/")[2]], root))
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "anyOf" in schema:
        return st.one_of([good(one, root) for one in schema["anyOf"]])
    kind = schema.get("type")
    if isinstance(kind, list):
        return ANYTHING
    if kind == "object":
        return _object(schema, root)
    if kind == "array":
        most = min(schema.get("maxItems", 3), schema.get("minItems", 0) + 3)
        return st.lists(
            good(schema.get("items", {}), root), min_size=schema.get("minItems", 0), max_size=most
        )
    if kind == "string":
        return _string(schema)
    if kind == "integer":
        low = schema.get(
            "minimum", schema.get("exclusiveMinimum", -1) + 1 if "exclusiveMinimum" in schema else None
        )
        return st.integers(low, schema.get("maximum"))
    if kind == "number":
        low, high = (schema.get(f"exclusive{end}", schema.get(end.lower())) for end in ("Minimum", "Maximum"))
        return st.floats(
            low,
            high,
            allow_nan=False,
            allow_infinity=False,
            exclude_min="exclusiveMinimum" in schema,
            exclude_max="exclusiveMaximum" in schema,
        )
    return {"boolean": st.booleans(), "null": st.none()}.get(kind or "", ANYTHING)


def _string(schema: dict[str, Any]) -> Strategy:
    if "format" in schema:
        pattern = re.compile(schema.get("pattern", ""))
        return _FORMATS[schema["format"]].filter(lambda text: pattern.search(text) is not None)
    if schema.get("pattern", _ANY_TEXT) != _ANY_TEXT:
        return st.from_regex(schema["pattern"].removesuffix("$") + r"\Z").map(lambda text: text.rstrip("\n"))
    low, most = schema.get("minLength", 0), schema.get("maxLength", 30)
    short = st.text(_SIGNS, min_size=low, max_size=min(most, low + 20))
    return short | st.just("长" * most) if most < 5000 else short


def _object(schema: dict[str, Any], root: dict[str, Any]) -> Strategy:
    known = {key: good(one, root) for key, one in schema.get("properties", {}).items()}
    needed = set(schema.get("required", ()))
    found = st.fixed_dictionaries(
        {key: one for key, one in known.items() if key in needed},
        optional={key: one for key, one in known.items() if key not in needed},
    )
    if not known:
        more = schema.get("additionalProperties", True)
        return st.dictionaries(_TEXT, ANYTHING if more is True else good(more, root), max_size=4)
    return found


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Of everything within a document."""
    if path:
        yield path
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in steps:
        yield from places(inner, (*path, step))


_ODD: Strategy = ANYTHING | st.sampled_from(
    ["", " ", "x" * 5000, "1", "true", "NaN", "2025-13-40", "\ud7ff", 0, -1, 2**63, 10**40, 1e308, 1.5, True, [], {}, None,
     "2025-03-05T09:30:00", "urn:cn:gov:gz:440106:oa\n", [[]], {"": {}}]
)  # fmt: skip


@st.composite
def changed(draw: st.DrawFn, documents: Strategy, keep: frozenset[str] = frozenset()) -> Any:
    """A good document with a few places replaced, left out or added to; those under `keep` stay."""
    document = copy.deepcopy(draw(documents))
    for _ in range(draw(st.integers(1, 3))):
        paths = [path for path in places(document) if path[0] not in keep]
        if not paths:
            break
        *above, last = draw(st.sampled_from(paths))
        holder = document
        for step in above:
            holder = holder[step]
        how = draw(st.sampled_from(["replace", "replace", "leave out", "add"]))
        if how == "replace":
            holder[last] = copy.deepcopy(draw(_ODD))
        elif how == "leave out":
            del holder[last]
        elif isinstance(holder, dict):
            holder[draw(_TEXT)] = copy.deepcopy(draw(_ODD))
        else:
            holder.insert(0, copy.deepcopy(draw(_ODD)))
    return document
