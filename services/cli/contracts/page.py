"""The AsyncAPI document as one page for people: no script, nothing from outside, readable on paper and on a telephone.

What the document says is not here.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from shared.contracts.fields import Field, fields
from shared.contracts.schemas import Schema

GROUPS = {
    "in": ("报送", "贵单位发布，本系统接收"),
    "out": ("答复", "本系统答复发布者"),
    "ask": ("询问", "请求/应答，随问随答"),
    "file": ("文件", "先于引用它的事件上传"),
    "evt": ("事实", "本系统告知，供其他系统旁听"),
}

TYPES = {
    "string": "文本",
    "integer": "整数",
    "number": "数",
    "boolean": "true / false",
    "object": "对象",
    "array": "数组",
    "any": "任意",
    "date": "日期",
    "date-time": "时间",
    "uuid": "UUID",
    "binary": "字节",
}


def page(
    document: Mapping[str, Any], forms: Sequence[Mapping[str, str]], published: Mapping[str, Schema]
) -> str:
    """`published` has the newest schema of each form by its key."""
    groups: dict[str, list[dict[str, Any]]] = {key: [] for key in GROUPS}
    for name, operation in document["operations"].items():
        key = operation["channel"]["$ref"].removeprefix("#/channels/")
        for message in document["channels"][key]["messages"]:
            one = _operation(document, key, operation, document["components"]["messages"][message])
            # The first keeps the plain name, which the answers lead to.
            later = f"-{message}" if message != next(iter(document["channels"][key]["messages"])) else ""
            groups[key.partition(".")[0]].append(
                {**one, "id": name.partition(".")[2].replace(".", "-") + later}
            )
    first = groups["in"][0]
    return _template().render(
        document=document,
        groups=[(key, *GROUPS[key], ones) for key, ones in groups.items() if ones],
        envelope=[
            {**f, "default": None, "values": [] if f["path"] == "type" else f["values"]}
            for f in first["all"]
            if "." not in f["path"]
        ],
        headers=_rows(fields(document["components"]["messageTraits"]["Event"]["headers"]).values()),
        forms=[
            {
                **form,
                "schema": published[form["key"]]["$id"],
                "fields": _rows(fields(published[form["key"]]).values()),
            }
            for form in forms
        ],
        paragraphs=_paragraphs(document["info"]["description"]),
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html")


def _paragraphs(text: str) -> tuple[str, list[str]]:
    first, *points = text.split("\n- ")
    return first.strip(), [p.strip() for p in points]


def _operation(
    document: Mapping[str, Any], key: str, operation: Mapping[str, Any], message: Mapping[str, Any]
) -> dict[str, Any]:
    channel = document["channels"][key]
    rows = _of_payload(document, message)
    made = {
        "key": key,
        "title": channel["title"],
        "description": channel["description"],
        "address": channel["address"],
        "type": message["name"],
        "schema": message.get("x-schema", ""),
        "parameters": channel.get("parameters", {}),
        "says": operation.get("x-says", []),
        "hears": operation.get("x-hears", []),
        "note": operation.get("description", ""),
        "stream": channel.get("x-jetstream"),
        "answers": [a.removeprefix("#/channels/") for a in operation.get("x-answers", ())],
        "all": rows,
        "fields": [
            {**f, "path": f["path"].removeprefix("data.")} for f in rows if f["path"].startswith("data.")
        ]
        if "x-schema" in message
        else rows,
        "examples": [
            (e["name"], json.dumps(e["payload"], ensure_ascii=False, indent=2))
            for e in message.get("examples", ())
        ],
        "reply": [],
    }
    if reply := operation.get("reply"):
        told = document["channels"][reply["channel"]["$ref"].removeprefix("#/channels/")]
        made["reply"] = _of_payload(
            document, document["components"]["messages"][next(iter(told["messages"]))]
        )
    return made


def _of_payload(document: Mapping[str, Any], message: Mapping[str, Any]) -> list[dict[str, Any]]:
    room = document["components"]["schemas"]
    payload = message["payload"]
    if "$ref" not in payload:
        return []
    return _rows(fields({**room[payload["$ref"].rpartition("/")[2]], "$defs": room}).values())


def _rows(found: Iterator[Field] | Any) -> list[dict[str, Any]]:
    return [
        {
            "path": field.path,
            "required": field.required,
            "type": "、".join(_kinds(field)),
            "limits": _limits(field.shape),
            "values": field.shape.get("enum") or ([field.shape["const"]] if "const" in field.shape else []),
            "examples": field.examples,
            "description": field.description,
            "default": None if field.default in (None, []) else json.dumps(field.default, ensure_ascii=False),
        }
        for field in found
    ]


def _kinds(field: Field) -> list[str]:
    kinds = [t for t in field.types if t != "null"]
    form = field.shape.get("format")
    return [TYPES.get(form, form) if form and kind == "string" else TYPES[kind] for kind in kinds]


def _limits(shape: Mapping[str, Any]) -> str:
    """What a person can use of it: the rest is in the schema."""
    said = []
    if "format" not in shape:
        if (most := shape.get("maxLength")) is not None:
            least = shape.get("minLength", 0)
            said.append(f"{least}–{most} 字" if least else f"最多 {most} 字")
        if "pattern" in shape and "exclusiveMaximum" not in shape:
            said.append(shape["pattern"])
    if (most := shape.get("maxItems")) is not None:
        said.append(f"{shape.get('minItems', 0)}–{most} 项")
    if shape.get("maximum", 2**53) < 2**53 - 1:
        low = shape.get("minimum", shape.get("exclusiveMinimum", -1) + 1)
        said.append(f"{low}–{shape['maximum']}")
    return "，".join(said)
