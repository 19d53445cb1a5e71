"""The published JSON Schema of an event: what the services accept, to the letter, and nothing that they refuse.

Where schemas are kept, and what may change in them, is not here.
"""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from shared.contracts import words
from shared.contracts.envelope import OUR_SOURCE
from shared.contracts.registry import EventType

DIALECT = "https://json-schema.org/draft/2020-12/schema"
URN = "urn:cn:gov:gz:sme:schema:"

TEXT = r"^[^\x00]*$"
"""PostgreSQL keeps no U+0000, in neither text nor jsonb."""

UNSAID = {
    "identity": "source 中的发布者须是发布所用主题的发布者，总线以账户为准",
    "unicode": "文本须是完整的 Unicode 字符，不得有单独的代理项（如 \\ud800）",
    "depth": "嵌套不超过约200层",
    "size": "整个事件（含主题和消息头）不超过1 MiB",
}
"""What we refuse and no schema can say; all else is said. Whoever speaks is proven by the bus; half a character, depth
and size are lost in the document that a validator is given."""

LARGEST = 1.7976931348623157e308


def _json(name: str, description: str, **more: Any) -> dict[str, Any]:
    return {
        "description": description,
        **more,
        "pattern": TEXT,
        "items": {"$ref": f"#/$defs/{name}"},
        "propertyNames": {"pattern": TEXT},
        "additionalProperties": {"$ref": f"#/$defs/{name}"},
    }


JSON = _json(
    "Json",
    "任意 JSON 值：数为有限数，文本中没有 U+0000",
    # 1e400 is Infinity to most libraries. ajv asks no bounds of that, but says that it is no number.
    type=["null", "boolean", "number", "string", "array", "object"],
    minimum=-LARGEST,
    maximum=LARGEST,
)
IGNORED = _json("Ignored", "本系统不读的 JSON 值；文本中没有 U+0000")
"""Both are about every kind of value at once: each keyword speaks of its own kind only."""

RAW = {"date-time": "Moment", "date": "Day", "uuid": "Id", "integer": "Whole", "number": "Number"}

Schema = dict[str, Any]


class _Plain(GenerateJsonSchema):
    """pydantic's schema without a title per field, which says nothing but its name."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def urn(type_: EventType, minor: int) -> str:
    """The `$id`, and what `dataschema` of an event says."""
    return f"{URN}{type_.name}:{type_.major}.{minor}"


def of_event(type_: EventType, minor: int = 0) -> Schema:
    """The structured document of an event, whole: envelope and data."""
    made = of_model(type_.envelope, urn(type_, minor), type_.payload)
    made["description"] = "：".join(words.EVENTS.get(type_.name, (type_.name,)))
    made["$comment"] = "本 schema 说不出的：" + "；".join(UNSAID.values())
    head = made["properties"]
    head["type"] = {"const": type_.ce_type, "description": words.FIELDS["type"]}
    if type_.cls == "in":
        # The token of a subject, as the bus proves it.
        head["source"]["pattern"] = "^urn:cn:gov:gz:[a-z0-9][a-z0-9_-]{0,63}:[A-Za-z0-9._-]{1,64}$"
    else:
        head["source"] = {"const": OUR_SOURCE, "description": words.FIELDS["source"]}
    return made


def of_model(model: type[BaseModel], id_: str, *more: type[BaseModel]) -> Schema:
    """A model and all within it, in Chinese; `more` are those of them whose bases say what their fields are called."""
    raw = model.model_json_schema(schema_generator=_Plain)
    for node in nodes(raw):
        kind = node.get("format", node.get("type"))
        if kind in RAW and not node.keys() & {"pattern", "maximum", "exclusiveMaximum"}:
            raise TypeError(
                f"{model.__name__}, {kind}: pydantic reads it otherwise than a schema can say; use {RAW[kind]} of scalars.py"
            )
    made = complete(raw, id_)
    bases = {m.__name__: tuple(c.__name__ for c in m.__mro__) for m in (model, *more)}
    parts = {**made["$defs"], model.__name__: made}
    for title, part in parts.items():
        if title in ("Json", "Ignored"):
            continue
        part.pop("description", None)  # a docstring is for who changes the code
        if said := words.MODELS.get(title):
            part["description"] = said
        for key, one in part.get("properties", {}).items():
            if said := words.field(bases.get(title, (title,)), key):
                one["description"] = said
    return made


def complete(schema: Schema, id_: str) -> Schema:
    """A schema of pydantic's with what it leaves unsaid."""
    defs = schema.setdefault("$defs", {})
    for node in list(nodes(schema)):
        _say(node)
    defs |= {"Json": JSON, "Ignored": IGNORED}
    said = {"$schema": DIALECT, "$id": id_}
    return said | {key: value for key, value in schema.items() if key not in said}


def _say(node: Schema) -> None:
    if node.get("default", ...) is None:
        del node["default"]  # absent and null are the same to us
    if node.get("type") == "string" and not node.keys() & {"pattern", "enum", "const"}:
        node["pattern"] = TEXT
    if node.get("type") == "object" and node.get("additionalProperties") is not False:
        # Open: what a reader does not know, it lets pass; what cannot be stored, the door refuses.
        node["propertyNames"] = {"pattern": TEXT}
        if node.get("additionalProperties", True) is True:
            node["additionalProperties"] = {
                "$ref": f"#/$defs/{'Ignored' if 'properties' in node else 'Json'}"
            }
    if node.get("pattern", TEXT) != TEXT and node.get("format") not in ("date", "uuid"):
        # Of these two all texts are as long as may be. `$` of Python, PHP and Java stands before a last line end, too; that of JavaScript, Go and Rust does not.
        node["not"] = {"pattern": "\\n"}


def nodes(schema: Schema) -> Iterator[Schema]:
    """Every schema within a schema, from the outside in."""
    yield schema
    for key in ("properties", "$defs", "patternProperties"):
        for one in schema.get(key, {}).values():
            yield from nodes(one)
    for key in ("anyOf", "allOf", "oneOf", "prefixItems"):
        for one in schema.get(key, ()):
            yield from nodes(one)
    for key in ("items", "additionalProperties", "not", "propertyNames"):
        if isinstance(schema.get(key), dict):
            yield from nodes(schema[key])
