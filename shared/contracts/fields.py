"""A published schema as a flat table: one line a field, with its path, its shape and whether it must be there.

What a change of a field means is not here: that is `frozen.py`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from shared.contracts.schemas import TEXT, Schema

KEYWORDS = (
    "const", "enum", "format", "minLength", "maxLength", "pattern", "minimum", "maximum", "exclusiveMinimum",
    "exclusiveMaximum", "minItems", "maxItems",
)  # fmt: skip
"""What a schema may say of a value besides its type."""


@dataclass(frozen=True)
class Field:
    """`path` is as in `data.files[].size`; `*` stands for a key that the publisher chooses."""

    path: str
    types: tuple[str, ...]
    required: bool
    shape: dict[str, Any]
    description: str = ""
    default: Any = None
    examples: tuple[Any, ...] = ()


def fields(schema: Schema) -> dict[str, Field]:
    """By path, in the order of the schema."""
    return {field.path: field for field in _within(schema, schema, "")}


def _within(node: Schema, root: Schema, path: str) -> Iterator[Field]:
    required = node.get("required", ())
    for key, one in node.get("properties", {}).items():
        yield from _field(one, root, f"{path}.{key}" if path else key, key in required)
    more = node.get("additionalProperties")
    if isinstance(more, dict) and "properties" not in node and not more.get("$ref", "").endswith("/Json"):
        yield from _field(more, root, f"{path}.*", required=False)


def _field(node: Schema, root: Schema, path: str, required: bool) -> Iterator[Field]:
    branches = [_resolved(one, root) for one in node.get("anyOf", [node])]
    types = [t for b in branches for t in _types(b)]
    shape = {key: b[key] for b in branches for key in KEYWORDS if key in b and b[key] != TEXT}
    said = next((n["description"] for n in (node, *branches) if "description" in n), "")
    shown = tuple(one for b in branches for one in b.get("examples", ()))
    yield Field(path, tuple(dict.fromkeys(types)), required, shape, said, node.get("default"), shown)
    for branch in branches:
        yield from _within(branch, root, path)
        if isinstance(branch.get("items"), dict):
            items = branch["items"]
            inner = [_resolved(one, root) for one in items.get("anyOf", [items])]
            if all("properties" in one for one in inner):
                for one in inner:
                    yield from _within(one, root, path + "[]")
            elif items:
                yield from _field(items, root, path + "[]", required=False)


def _resolved(node: Schema, root: Schema) -> Schema:
    if "$ref" not in node:
        return node
    found: Schema = root["$defs"][node["$ref"].rpartition("/")[2]]
    return found


def _types(node: Schema) -> list[str]:
    found = node.get("type", "any" if not node.keys() & {"const", "enum"} else "string")
    return found if isinstance(found, list) else [found]
