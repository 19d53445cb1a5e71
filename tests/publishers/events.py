"""Events in great number, good and bad: each is a good one with one thing done to it that somebody will do one day.

Who judges them is in `judges.py`.
"""

import copy
import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from shared.contracts.registry import EVENTS, EventType
from shared.contracts.schemas import of_event
from tests.goldens import golden
from tests.publishers.judges import TOKEN
from tests.schemas import changed, good, places

INBOUND = tuple(e for e in EVENTS if e.cls == "in")
SOURCE = f"urn:cn:gov:gz:{TOKEN}:oa"

Document = dict[str, Any]
Place = tuple[str | int, ...]
Change = Callable[[random.Random, "Sample"], bytes | Document | None]


@dataclass
class Sample:
    """A good event, to be changed, and its schema."""

    type: EventType
    document: Document

    @property
    def schema(self) -> Document:
        return schema_of(self.type)

    def at(self, place: Place) -> Any:
        here: Any = self.document
        for step in place:
            here = here[step]
        return here

    def put(self, place: Place, value: Any) -> Document:
        made = copy.deepcopy(self.document)
        here: Any = made
        for step in place[:-1]:
            here = here[step]
        here[place[-1]] = value
        return made

    def without(self, place: Place) -> Document:
        made = copy.deepcopy(self.document)
        here: Any = made
        for step in place[:-1]:
            here = here[step]
        del here[place[-1]]
        return made

    @cached_property
    def listed(self) -> list[tuple[Place, Any, Document]]:
        """Everything within it of which its schema tells something, but for who says it and what it is."""
        found = ((place, self.at(place), self.told(place)) for place in places(self.document))
        return [(p, v, t) for p, v, t in found if t is not None and p not in (("type",), ("source",))]

    def places(self, wanted: Callable[[Any, Document], bool]) -> list[Place]:
        """Where a value and its schema are as wanted."""
        return [place for place, value, told in self.listed if wanted(value, told)]

    def told(self, place: Place) -> Document | None:
        """The schema of a place, `null` beside it left out; None for what is free or may be one of several things."""
        node: Document | None = self.schema
        for step in (*place, None):
            if node is not None and "$ref" in node:
                node = self.schema["$defs"][node["$ref"].rpartition("/")[2]]
            if node is not None and "anyOf" in node:
                others = [one for one in node["anyOf"] if one.get("type") != "null"]
                node = others[0] if len(others) == 1 else node
                if "$ref" in node:
                    node = self.schema["$defs"][node["$ref"].rpartition("/")[2]]
            if step is None or node is None:
                break
            node = node.get("items") if isinstance(step, int) else node.get("properties", {}).get(step)
        return node


@cache
def schema_of(type_: EventType) -> Document:
    return of_event(type_)


@cache
def samples(type_: EventType, count: int = 24) -> tuple[Sample, ...]:
    """Good ones: the golden example, and what its schema allows."""
    found = [Sample(type_, {**json.loads(golden(type_.ce_type).read_bytes()), "source": SOURCE})]

    @seed(8)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(good(schema_of(type_)))
    def collect(document: Document) -> None:
        found.append(
            Sample(type_, {**document, "source": SOURCE, "type": type_.ce_type, "specversion": "1.0"})
        )

    collect()
    return tuple(found)


@cache
def odd(type_: EventType, count: int = 40) -> tuple[Document, ...]:
    """Good ones with several things changed at random."""
    found: list[Document] = []
    documents = good(schema_of(type_)).map(lambda d: {**d, "source": SOURCE, "type": type_.ce_type})

    @seed(8)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(changed(documents, keep=frozenset({"source", "type"})))
    def collect(document: Document) -> None:
        found.append(document)

    collect()
    return tuple(found)


def wire(made: Any) -> bytes:
    return json.dumps(made, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


# --- what is done to them ------------------------------------------------------------------------------

GOOD: dict[str, Change] = {}
BAD: dict[str, Change] = {}
EITHER: dict[str, Change] = {}
UNSAID: dict[str, Change] = {}
"""By what must be said of them; of the third, whatever all say; of the last, what no schema can say and we refuse: by the
keys of `shared.contracts.schemas.UNSAID`."""


def _kind(of: dict[str, Change], name: str) -> Callable[[Change], Change]:
    def keep(change: Change) -> Change:
        of[name] = change
        return change

    return keep


def _plain_text(value: Any, told: Document) -> bool:
    """A text of which nothing is asked but a length."""
    return isinstance(value, str) and told.get("type") == "string" and not _shaped(told)


def _long_text(value: Any, told: Document) -> bool:
    return _plain_text(value, told) and told.get("minLength", 0) < 2 < told.get("maxLength", 99)


def _shaped(told: Document) -> bool:
    return (
        bool(told.keys() & {"format", "enum", "const"}) or told.get("pattern", r"^[^\x00]*$") != r"^[^\x00]*$"
    )


def _of(format_: str) -> Callable[[Any, Document], bool]:
    return lambda value, told: isinstance(value, str) and told.get("format") == format_


def _whole(value: Any, told: Document) -> bool:
    return told.get("type") == "integer" and isinstance(value, int)


def _figure(value: Any, told: Document) -> bool:
    """A number that may have a fraction, or be a text of digits."""
    kinds = {one.get("type") for one in told.get("anyOf", ())} - {"null"}
    return kinds == {"number", "string"} and value is not None


HUGE = ["1e400", "-1e400", "9" * 400, "-" + "9" * 400, "1" + "0" * 309, "2e308"]


def _numeric(value: Any, told: Document) -> bool:
    return _whole(value, told) or _figure(value, told)


def _closed(value: Any, told: Document) -> bool:
    return isinstance(value, dict) and told.get("additionalProperties") is False


def _one(rng: random.Random, found: list[Place]) -> Place | None:
    return rng.choice(found) if found else None


def _replaced(
    wanted: Callable[[Any, Document], bool], values: Callable[[Any, Document], list[Any]]
) -> Change:
    """One place of a kind gets one of some values."""

    def change(rng: random.Random, sample: Sample) -> Document | None:
        place = _one(rng, sample.places(wanted))
        if place is None:
            return None
        told = sample.told(place)
        assert told is not None
        found = values(sample.at(place), told)
        return sample.put(place, rng.choice(found)) if found else None

    return change


@_kind(GOOD, "as it is")
def _as_it_is(_: random.Random, sample: Sample) -> Document:
    return sample.document


@_kind(GOOD, "blanks and line ends")
def _blanks(rng: random.Random, sample: Sample) -> bytes:
    return b"\r\n\t " + json.dumps(sample.document, indent=rng.choice([0, 1, 2])).encode() + b" \n"


@_kind(GOOD, "keys in another order")
def _order(rng: random.Random, sample: Sample) -> Document:
    def turned(value: Any) -> Any:
        if isinstance(value, list):
            return [turned(one) for one in value]
        if not isinstance(value, dict):
            return value
        keys = list(value)
        rng.shuffle(keys)
        return {key: turned(value[key]) for key in keys}

    made: Document = turned(sample.document)
    return made


@_kind(GOOD, "every character escaped")
def _escaped(_: random.Random, sample: Sample) -> bytes:
    plain = json.dumps(sample.document, ensure_ascii=True)

    def text(found: re.Match[str]) -> str:
        inner = json.loads(found[0])
        units = inner.encode("utf-16-be", "surrogatepass")
        return '"' + "".join(f"\\u{units[n]:02x}{units[n + 1]:02X}" for n in range(0, len(units), 2)) + '"'

    return re.sub(r'"(?:[^"\\]|\\.)*"', text, plain).encode()


@_kind(GOOD, "extension attributes")
def _extension(rng: random.Random, sample: Sample) -> Document:
    return {
        **sample.document,
        rng.choice(["sequence", "recordedtime", "x", "dataref"]): rng.choice([1, True, "一", None]),
    }


@_kind(GOOD, "what may be absent is absent")
def _absent(rng: random.Random, sample: Sample) -> Document | None:
    found = [
        place
        for place in places(sample.document)
        if isinstance(place[-1], str)
        and (holder := sample.told(place[:-1]))
        and place[-1] in holder.get("properties", {})
        and place[-1] not in holder.get("required", ())
    ]
    place = _one(rng, found)
    return sample.without(place) if place else None


@_kind(GOOD, "null for what may be absent")
def _null(rng: random.Random, sample: Sample) -> Document | None:
    data = sample.schema["$defs"][sample.schema["properties"]["data"]["$ref"].rpartition("/")[2]]
    found = [
        key for key, one in data["properties"].items() if {"type": "null"} in one.get("anyOf", ())
    ]  # fmt: skip
    return sample.put(("data", rng.choice(found)), None) if found else None


_kind(GOOD, "1.0 for 1")(_replaced(_whole, lambda value, _: [float(value)] if abs(value) < 2**53 else []))
_kind(GOOD, "another spelling of a moment")(
    _replaced(
        _of("date-time"),
        lambda *_: [
            "2025-03-03T09:00:00+08:00", "2025-03-03T01:00:00Z", "2025-03-03T01:00:00.123456789Z", "2024-02-29T23:59:59-12:00",
            "2025-03-03T09:00:00.1+05:45", "2000-02-29T00:00:00+23:59", "2025-03-03T01:00:00-00:00", "1970-01-01T00:00:00Z",
        ],
    )
)  # fmt: skip
_kind(GOOD, "another day")(
    _replaced(_of("date"), lambda *_: ["2024-02-29", "2000-02-29", "1999-12-31", "9999-12-31", "2025-01-01"])
)
_kind(GOOD, "an id in capitals")(_replaced(_of("uuid"), lambda value, _: [value.upper(), value.lower()]))
_kind(GOOD, "the longest text")(
    _replaced(
        _plain_text,
        lambda _, told: (
            [sign * told["maxLength"] for sign in ("x", "长", "𠀀", "e\u0301"[1], "👨")]
            if told.get("maxLength", 10**9) < 5000
            else []
        ),
    )
)
_kind(GOOD, "odd characters")(
    _replaced(
        _plain_text,
        lambda _, told: [
            sign
            for sign in ("e\u0301", "é", "\u200b", "\ufeff", "\u202e", "𠀀", "\u2028", "\x7f", "\\u0000", "\t", "\ufffe", "\U0010ffff", "\u0001")
            if told.get("minLength", 0) <= len(sign) <= told.get("maxLength", 99)
        ],
    )
)  # fmt: skip
_kind(GOOD, "another spelling of a number")(
    _replaced(_figure, lambda *_: [0, -0.0, 1.0, 1e3, 1.5, 0.1, 12345.678, "3.5", "007", "-0", "0.10"])
)


@_kind(GOOD, "a number as a library writes it")
def _number(rng: random.Random, sample: Sample) -> bytes | None:
    place = _one(rng, sample.places(_figure))
    if place is None:
        return None
    spelled = rng.choice(["-0", "1E2", "1e+2", "10e-1", "1.50", "0.0", "-0.0", "1e0", "100000000000"])
    return wire(sample.put(place, "@")).replace(b'"@"', spelled.encode())


@_kind(GOOD, "a key that is told twice, at last well")
def _twice_well(rng: random.Random, sample: Sample) -> bytes:
    key = rng.choice([k for k in sample.document if k != "data"])
    return b"{" + wire(key) + b":" + rng.choice([b"null", b"7", b'""']) + b"," + wire(sample.document)[1:]


@_kind(BAD, "a key that is told twice, at last badly")
def _twice_badly(rng: random.Random, sample: Sample) -> bytes:
    key = rng.choice(["id", "time", "data", "specversion", "source", "type"])
    return (
        wire(sample.document)[:-1]
        + b","
        + wire(key)
        + b":"
        + rng.choice([b"null", b"7", b'""', b"[]"])
        + b"}"
    )


@_kind(BAD, "what is required is missing")
def _missing(rng: random.Random, sample: Sample) -> Document | None:
    found = [
        place
        for place in places(sample.document)
        if (holder := sample.told(place[:-1])) and place[-1] in holder.get("required", ())
    ]
    place = _one(rng, found)
    return sample.without(place) if place else None


@_kind(BAD, "a field that there is not")
def _extra(rng: random.Random, sample: Sample) -> Document | None:
    place = _one(rng, sample.places(_closed))
    if place is None:
        return None
    names = [
        "typing_error",
        "Notice",
        "",
        " ",
        "__proto__",
        "constructor",
        "toString",
        "备注",
        "data",
        "$ref",
        "0",
        "id ",
    ]
    known = (sample.told(place) or {}).get("properties", {})
    return sample.put(
        (*place, rng.choice([n for n in names if n not in known])), rng.choice([None, 1, "x", {}])
    )


@_kind(BAD, "another type")
def _type(rng: random.Random, sample: Sample) -> Document | None:
    def typed(_: Any, told: Document) -> bool:
        return isinstance(told.get("type"), str)

    place = _one(rng, sample.places(typed))
    if place is None:
        return None
    told = sample.told(place)
    assert told is not None
    values = {"object": {}, "array": [], "string": "x", "integer": 3, "number": 1.5, "boolean": True}
    others = [v for k, v in values.items() if k != told["type"]]
    return sample.put(place, copy.deepcopy(rng.choice(others)))


@_kind(BAD, "null for what must be there")
def _no_null(rng: random.Random, sample: Sample) -> Document | None:
    def needed(place: Place) -> bool:
        holder = sample.told(place[:-1])
        if not holder or place[-1] not in holder.get("required", ()):
            return False
        one = holder["properties"][place[-1]]
        return {"type": "null"} not in one.get("anyOf", ())

    place = _one(rng, [p for p in places(sample.document) if needed(p)])
    return sample.put(place, None) if place else None


_kind(BAD, "a text for a number")(_replaced(_whole, lambda value, _: [str(value), f" {value}", "", "一"]))
_kind(BAD, "true for 1")(_replaced(_numeric, lambda *_: [True, False]))
_kind(BAD, "1 for true")(
    _replaced(
        lambda v, t: t.get("type") == "boolean" and v is not None, lambda *_: [0, 1, "true", "yes", 0.0, []]
    )
)
_kind(BAD, "a fraction of a whole number")(
    _replaced(_whole, lambda value, _: [value + 0.5 if abs(value) < 2**50 else 0.5])
)


@_kind(BAD, "a number out of its bounds")
def _beyond(rng: random.Random, sample: Sample) -> Document | None:
    place = _one(rng, sample.places(_numeric))
    if place is None:
        return None
    told = sample.told(place)
    assert told is not None
    if _figure(sample.at(place), told):
        return sample.put(place, rng.choice([10**12, -(10**12), 1e13, 10**40, 1e308, "1234567890123"]))
    low = told["exclusiveMinimum"] if "exclusiveMinimum" in told else told["minimum"] - 1
    high = told["exclusiveMaximum"] if "exclusiveMaximum" in told else told["maximum"] + 1
    return sample.put(place, rng.choice([low, high, 2**53, 2**63, -(2**63) - 1, 2**64, 10**40, 1e300]))


_kind(BAD, "a text that is too long, or too short")(
    _replaced(
        _plain_text,
        lambda _, told: [sign * (int(told["maxLength"]) + 1) for sign in ("x", "长", "𠀀") if told.get("maxLength", 10**9) < 5000]
        + ([""] if told.get("minLength") else []),
    )
)  # fmt: skip
_kind(BAD, "a text of another shape")(
    _replaced(
        lambda v, t: isinstance(v, str) and _shaped(t),
        lambda value, _: [
            value + "\n",
            value + " ",
            "\n" + value,
            "\u3000" + value,
            value + "é",
            value + "٣",
            "",
            "１２３",
        ],
    )
)
_kind(BAD, "another word than those allowed")(
    _replaced(
        lambda v, t: "enum" in t and isinstance(v, str),
        lambda value, _: [value + "x", value.upper() + "X", f" {value}", "", "null", "ＫＩＮＤ", 1],
    )
)
_kind(BAD, "no day")(
    _replaced(
        _of("date"),
        lambda *_: [
            "2025-02-30", "2025-02-29", "1900-02-29", "2025-13-01", "2025-00-01", "2025-01-00", "2025-1-1", "20250303", "2025-03-03T00:00:00",
            "2025-03-03Z", "0000-01-01", "10000-01-01", "-2025-01-01", "2025/03/03", "2025-W10-1", "2025-062", "٢٠٢٥-٠٣-٠٣", "03-03-2025",
            "2025-04-31", "二〇二五年三月三日", "2025-03-03 ", 20250303, 0,
        ],
    )
)  # fmt: skip
_kind(BAD, "no moment")(
    _replaced(
        _of("date-time"),
        lambda *_: [
            "2025-03-03T09:00:00", "2025-03-03", "2025-03-03T09:00+08:00", "2025-03-03T09:00:00+0800", "2025-03-03T09:00:00+08",
            "2025-03-03t09:00:00+08:00", "2025-03-03T01:00:00z", "2025-03-03 09:00:00+08:00", "2016-12-31T23:59:60Z", "2025-03-03T24:00:00Z",
            "2025-03-03T09:60:00Z", "2025-03-03T09:00:61Z", "2025-03-03T09:00:00+24:00", "2025-03-03T09:00:00+08:60", "2025-02-29T09:00:00Z",
            "2025-03-03T09:00:00,5Z", "2025-03-03T09:00:00.Z", "2025-03-03T09:00:00.1234567890Z", "0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z",
            "2025-03-03T9:00:00Z", "1741000000", 1741000000, 1741000000.5, "2025-03-03T09:00:00−08:00", "2025-03-03T09:00:00 +08:00",
            "20250303T010000Z", "Mon, 03 Mar 2025 09:00:00 +0800", "2025-03-03T09:00:00Z[Asia/Shanghai]",
        ],
    )
)  # fmt: skip
_kind(BAD, "no id")(
    _replaced(
        _of("uuid"),
        lambda value, _: [
            value[:-1], value + "0", value.replace("-", ""), "{" + value + "}", "urn:uuid:" + value, value.replace("-", "_"), "g" + value[1:],
            "", " " + value, value + "\n", 7,
        ],
    )
)  # fmt: skip
_kind(BAD, "no number")(
    _replaced(
        _figure,
        lambda *_: ["", " 1", "1 ", "1_000", "1,000", "1e3", "+1", ".5", "1.", "0x10", "NaN", "Infinity", "１", "١", "--1", "一", [], {}, "1.2.3", "1\n"],
    )
)  # fmt: skip


def _spelled(sample: Sample, where: Place, text: str) -> bytes:
    """With these characters in a place: what no library would write."""
    return wire(sample.put(where, "@@")).replace(b'"@@"', text.encode())


def _free(sample: Sample) -> list[Place]:
    """Where anything may stand that is read."""
    found: list[Place] = []
    for place in places(sample.document):
        value, told = sample.at(place), sample.told(place)
        if isinstance(value, dict) and told and told.get("additionalProperties") == {"$ref": "#/$defs/Json"}:
            found += [(*place, "x"), (*place, *list(value)[:1])] if value else [(*place, "x")]
    return found


@_kind(BAD, "no JSON number")
def _no_number(rng: random.Random, sample: Sample) -> bytes:
    where = rng.choice([("x",), *_free(sample), *sample.places(_numeric)])
    spelled = [
        "NaN",
        "Infinity",
        "-Infinity",
        "+1",
        ".5",
        "1.",
        "01",
        "0x10",
        "1e",
        "1_000",
        "--1",
        "1e+",
        "- 1",
        "1,0",
    ]
    return _spelled(sample, where, rng.choice(spelled))


@_kind(BAD, "a number that few can hold")
def _huge(rng: random.Random, sample: Sample) -> bytes | None:
    where = _one(rng, [*_free(sample), *sample.places(_numeric)])
    return _spelled(sample, where, rng.choice(HUGE)) if where else None


@_kind(GOOD, "the same where nobody reads it")
def _huge_ignored(rng: random.Random, sample: Sample) -> bytes:
    return _spelled(sample, ("x",), rng.choice(HUGE))


@_kind(EITHER, "numbers at their bounds")
def _bounds(rng: random.Random, sample: Sample) -> bytes | None:
    where = _one(rng, [*_free(sample), *sample.places(_numeric)])
    spelled = [
        "9007199254740991", "9007199254740992", "9007199254740991.0", "-9007199254740991", "-9007199254740992", "1e15", "1E16", "0.1e1", "10e-1",
        "1.0000000000000000000001", "0.99999999999999999999999", "1e-400", "-1e-400", "999999999999", "999999999999.9999", "1e12", "1000000000000",
        "999999999999.99999999", "-999999999999.99999999", "0", "-0", "-0.0", "0e0", "2147483647", "2147483648", "20971520", "20971521", "1e308",
        "1.7976931348623157e308", "1.7976931348623159e308", "123456789012345678901234567890", "0.1234567890123456789",
    ]  # fmt: skip
    return _spelled(sample, where, rng.choice(spelled)) if where else None


@_kind(BAD, "U+0000")
def _zero(rng: random.Random, sample: Sample) -> bytes:
    where = _one(rng, sample.places(_plain_text)) or ("x",)
    spelled = rng.choice(["\\u0000", "a\\u0000b", "\\\\\\u0000", "\0"])
    made = wire(sample.put(where, "@")).replace(b'"@"', b'"' + spelled.encode() + b'"')
    return made if rng.random() < 0.8 else wire({**sample.document, "@": 1}).replace(b'"@"', b'"a\\u0000"')


@_kind(BAD, "lists of another length")
def _length(rng: random.Random, sample: Sample) -> Document | None:
    def bounded(value: Any, told: Document) -> bool:
        return (
            isinstance(value, list)
            and bool(value)
            and ("minItems" in told or told.get("maxItems", 10**9) < 600)
        )

    place = _one(rng, sample.places(bounded))
    if place is None:
        return None
    told, value = sample.told(place), sample.at(place)
    assert told is not None
    few = value[: told.get("minItems", 0) - 1] if told.get("minItems") else None
    many = [value[0]] * (told["maxItems"] + 1) if told.get("maxItems", 10**9) < 600 else None
    return sample.put(place, rng.choice([one for one in (few, many) if one is not None]))


@_kind(BAD, "no JSON")
def _no_json(rng: random.Random, sample: Sample) -> bytes:
    sound = wire(sample.document)
    return rng.choice(
        [
            b"", b" ", b"{", sound[:-1], sound[: len(sound) // 2], sound + b"x", sound + sound, b"\xef\xbb\xbf" + sound, sound[:-1] + b",}",
            b"/**/" + sound, sound.replace(b'"', b"'"), sound.decode().encode("utf-16"), sound.replace(b'"time"', b"time", 1),
            sound[:-1] + b',"x":"\x01"}', sound[:-1] + b',"x":"\n"}', sound[:-1] + b',"x":"\\x41"}', sound[:-1] + b',"x":"\\u12"}',
            sound[:-1] + b',"x":"\xff"}', sound[:-1] + b',"x":"\xc0\x80"}', sound[:-1] + b',"x":"\xed\xa0\x80"}', sound[:-1] + b',"x":"\xf5\x80\x80\x80"}',
            sound[:-1] + b',"x":True}', sound[:-1] + b',"x":undefined}', sound[:-1] + b',"x" 1}', b"<xml/>", b"null", b"[]", b'"x"', b"1", b"true",
            b"[" + sound + b"]", sound.replace(b":", b"=", 1), b"\0" + sound, sound[:-1] + b',"x":[1,]}', sound[:-1] + b',"x":[1 2]}',
        ]
    )  # fmt: skip


@_kind(BAD, "attributes of another profile")
def _profile(rng: random.Random, sample: Sample) -> Document:
    key, value = rng.choice(
        [
            ("specversion", "0.3"), ("specversion", 1.0), ("specversion", "1.0 "), ("id", ""), ("id", "a b"), ("id", "x" * 129), ("id", "甲"),
            ("id", "a\n"), ("id", "\x7f"), ("source", "https://example.com"), ("source", "urn:cn:gov:gz:440106"), ("source", SOURCE + "\n"),
            ("source", "urn:cn:gov:gz:440106:"), ("source", "urn:cn:gov:gz:440106:o a"), ("source", "urn:cn:gov:gz:-440106:oa"),
            ("source", "URN:cn:gov:gz:440106:oa"), ("type", "x"), ("type", "cn.gov.gz.sme.mail.sent.v1"), ("type", sample.type.ce_type + " "),
            ("type", sample.type.ce_type.upper()), ("datacontenttype", "text/xml"), ("datacontenttype", "application/json; charset=utf-8"),
            ("datacontenttype", None), ("subject", "x" * 129), ("subject", 1), ("dataschema", "x" * 257), ("traceparent", "x" * 65),
            ("correlationid", 7), ("causationid", ["x"]), ("data", None), ("data", []), ("data", "{}"), ("data", [sample.document["data"]]),
        ]
    )  # fmt: skip
    return {**sample.document, key: value}


@_kind(UNSAID, "identity")
def _identity(rng: random.Random, sample: Sample) -> Document:
    other = rng.choice(["440105", "440100", "k6-0123456789", "440106x", "nobody"])
    return {**sample.document, "source": f"urn:cn:gov:gz:{other}:oa"}


@_kind(UNSAID, "unicode")
def _half(rng: random.Random, sample: Sample) -> bytes:
    where = rng.choice([("x",), *_free(sample), *sample.places(_long_text)])
    return _spelled(sample, where, rng.choice(['"\\ud800"', '"\\udc00\\ud800"', '"\\uDFFFx"', '"a\\uD83D"']))


@_kind(UNSAID, "depth")
def _deep(rng: random.Random, sample: Sample) -> bytes:
    where = rng.choice([("x",), *_free(sample)])
    return _spelled(sample, where, "[" * 210 + "]" * 210)


@_kind(EITHER, "several things at random")
def _several(rng: random.Random, sample: Sample) -> bytes:
    return wire(rng.choice(odd(sample.type)))


@_kind(EITHER, "any value anywhere")
def _anything(rng: random.Random, sample: Sample) -> Document:
    values: list[Any] = [None, True, False, 0, 1, -1, 1.0, 1.5, 2**53, 1e308, "", " ", "x", "1", "长", "2025-03-03", "2025-03-03T09:00:00Z", [], {}, [[]],
                         {"": {}}, [None], "K1", "440106"]  # fmt: skip
    found = [p for p in places(sample.document) if p not in (("source",), ("type",))]
    return sample.put(rng.choice(found), copy.deepcopy(rng.choice(values)))


@dataclass(frozen=True)
class Made:
    """One of them: what was done, and what must be said of it, by the services and by whoever has only the schema."""

    type: EventType
    kind: str
    body: bytes
    ours: bool | None
    theirs: bool | None


KINDS: tuple[tuple[str, Change, bool | None, bool | None], ...] = tuple(
    (name, change, ours, theirs)
    for kinds, ours, theirs in (
        (GOOD, True, True),
        (BAD, False, False),
        (EITHER, None, None),
        (UNSAID, False, True),
    )
    for name, change in kinds.items()
)


def made(count: int) -> Iterator[Made]:
    """So many of them, the same every time: of every kind and type alike, where there is something to do it to."""
    turn, done = 0, 0
    while done < count:
        kind, change, ours, theirs = KINDS[turn % len(KINDS)]
        type_ = INBOUND[turn // len(KINDS) % len(INBOUND)]
        rng = random.Random(turn)
        turn += 1
        chosen = samples(type_)
        for sample in rng.sample(chosen, len(chosen)):
            if (found := change(rng, sample)) is not None:
                done += 1
                yield Made(type_, kind, found if isinstance(found, bytes) else wire(found), ours, theirs)
                break
