"""The AsyncAPI 3 document of everything that crosses the bus, made from the registry and the published schemas.

Drawing it as a page is not here, nor is what the streams are: `Bus` is handed in by whoever knows.
"""

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from shared.contracts import registry, schemas, words
from shared.contracts.envelope import CONTENT_TYPE
from shared.contracts.registry import Ask, EventType
from shared.contracts.schemas import Schema, nodes


@dataclass(frozen=True)
class Bus:
    """What a publisher must know of the bus besides the registry. `streams` are facts by class of event, `consumers` the
    durables by event, `districts` and `publishers` codes of the directory."""

    streams: Mapping[str, Mapping[str, Any]]
    consumers: Mapping[str, Sequence[Mapping[str, Any]]]
    districts: Sequence[str]
    publishers: Sequence[str]


PLAIN = "application/json"
TRACE = "^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"

INFO = """政务系统之间的事件总线：一份通知的申报、办理和公布。

- 每个事件是一个 CloudEvents 1.0 文档（结构化模式；二进制模式也接受），UTF-8，最大 1 MiB。
- 主题中的发布者代码就是贵单位账户的名称，由总线证明；source 只是重复它。
- 发布时带 Nats-Msg-Id；没有收到 PubAck 就用同一个 id 重发，duplicate 也是成功。
- PubAck 只表示“已存”。结果看答复：event.accepted 或 event.rejected；不在线时用 event.status、event.answers 补问。
- 收到的事件按模式逐字核对：不认识的字段会被退回。发出的事件可能增加字段：请忽略不认识的字段。"""

SECURITY = {
    "nkey": {
        "type": "asymmetricEncryption",
        "description": "NATS nkey：种子文件由贵单位保管，公钥登记在账户中；不传输密码。",
    },
    "certificate": {"type": "X509", "description": "总线要求时的 TLS 客户端证书。"},
}


def document(
    bus: Bus, published: Mapping[str, Schema], examples: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """`published` are the newest schemas by type, `examples` golden examples by type and name."""
    types = [e for e in registry.EVENTS if e.cls != "audit"]
    made: dict[str, Any] = {
        "asyncapi": "3.0.0",
        "id": "urn:cn:gov:gz:440100:yiqi",
        "info": {"title": "Yiqi event bus", "version": "1.0.0", "description": INFO},
        "defaultContentType": CONTENT_TYPE,
        "servers": {"bus": SERVER},
        "channels": {},
        "operations": {},
        "components": {
            "messages": {},
            "schemas": {"Json": schemas.JSON},
            "securitySchemes": SECURITY,
            "messageTraits": {"Event": {"contentType": CONTENT_TYPE, "headers": HEADERS}},
        },
    }
    for type_ in types:
        _event(made, type_, bus, published[type_.ce_type], examples.get(type_.ce_type, {}))
    for ask in registry.ASKS:
        _ask(made, ask, bus)
    _files(made, bus)
    found: dict[str, Any] = json.loads(json.dumps(made).replace("#/$defs/", "#/components/schemas/"))
    return found


SERVER: dict[str, Any] = {
    "host": "{host}:{port}",
    "protocol": "nats",
    "description": "地址由运维告知；要求 TLS。",
    "variables": {
        "host": {"description": "总线的地址", "default": "nats.yiqi.example"},
        "port": {"description": "端口", "default": "4222"},
    },
    "security": [
        {"$ref": "#/components/securitySchemes/nkey"},
        {"$ref": "#/components/securitySchemes/certificate"},
    ],
}

HEADERS: dict[str, Any] = {
    "type": "object",
    "required": ["Nats-Msg-Id"],
    "properties": {
        "Nats-Msg-Id": {
            "type": "string",
            "description": "去重：发布者代码、冒号、事件的 id，如 440106:0b6a7c1e-…；重发时不变",
        },
        "Content-Type": {"type": "string", "const": CONTENT_TYPE, "description": "结构化模式"},
        "traceparent": {"type": "string", "pattern": TRACE, "description": words.FIELDS["traceparent"]},
    },
}


def _event(
    made: dict[str, Any], type_: EventType, bus: Bus, schema: Schema, examples: Mapping[str, Any]
) -> None:
    key, message = f"{type_.cls}.{type_.name}", type_.envelope.__name__
    title, said = words.EVENTS[type_.name]
    _components(made, message, schema)
    channel = made["channels"].setdefault(
        key,
        {
            "address": type_.subject("{district}" if type_.cls == "evt" else "{publisher}"),
            "title": title,
            "description": said,
            "messages": {},
            "parameters": _district(bus) if type_.cls == "evt" else _publisher(bus),
            "x-jetstream": {**bus.streams[type_.cls], "consumers": list(bus.consumers.get(type_.name, ()))},
        },
    )
    # Two major versions are two messages on one subject.
    channel["messages"][message] = {"$ref": f"#/components/messages/{message}"}
    made["components"]["messages"][message] = {
        "name": type_.ce_type,
        "title": message,
        "summary": f"{title}：{said}",
        "traits": [{"$ref": "#/components/messageTraits/Event"}],
        "payload": {"$ref": f"#/components/schemas/{message}"},
        "examples": [{"name": name, "payload": payload} for name, payload in sorted(examples.items())],
        "x-schema": schema["$id"],
    }
    verb = "receive" if type_.cls == "in" else "send"
    operation = made["operations"].setdefault(
        f"{verb}.{key}",
        {
            "action": verb,
            "channel": {"$ref": f"#/channels/{key}"},
            "title": title,
            "description": f"说：{'、'.join(type_.says)}；听：{'、'.join(type_.hears) or '供留存和旁听'}",
            "messages": [],
            "x-says": list(type_.says),
            "x-hears": list(type_.hears),
            **({"x-answers": ANSWERS} if type_.cls == "in" else {}),
        },
    )
    operation["messages"].append({"$ref": f"#/channels/{key}/messages/{message}"})


ANSWERS = [f"#/channels/out.{e.name}" for e in registry.EVENTS if e.cls == "out"]


def _ask(made: dict[str, Any], ask: Ask, bus: Bus) -> None:
    """A question over core NATS: no stream keeps it, and its answer comes to the inbox it names."""
    key = f"ask.{ask.name}"
    title, said = words.EVENTS[ask.name]
    for model in (ask.payload, ask.answer):
        _components(made, model.__name__, schemas.of_model(model, f"{schemas.URN}{model.__name__}:1.0"))
        made["components"]["messages"][model.__name__] = {
            "name": model.__name__,
            "title": model.__name__,
            "contentType": PLAIN,
            "payload": {"$ref": f"#/components/schemas/{model.__name__}"},
        }
    asked, told = ask.payload.__name__, ask.answer.__name__
    made["channels"][key] = {
        "address": ask.subject("{publisher}"),
        "title": title,
        "description": said,
        "messages": {asked: {"$ref": f"#/components/messages/{asked}"}},
        "parameters": _publisher(bus),
    }
    made["channels"][f"{key}.reply"] = {
        "address": None,
        "title": f"{title}：回答",
        "messages": {told: {"$ref": f"#/components/messages/{told}"}},
    }
    made["operations"][f"receive.{key}"] = {
        "action": "receive",
        "channel": {"$ref": f"#/channels/{key}"},
        "title": title,
        "description": f"NATS 请求/应答，由 {ask.hears} 立即回答；不入流，没有回答就再问。",
        "messages": [{"$ref": f"#/channels/{key}/messages/{asked}"}],
        "reply": {
            "address": {"location": "$message.header#/reply", "description": "NATS 的 reply 主题"},
            "channel": {"$ref": f"#/channels/{key}.reply"},
            "messages": [{"$ref": f"#/channels/{key}.reply/messages/{told}"}],
        },
        "bindings": {"nats": {"queue": ask.hears, "bindingVersion": "0.1.0"}},
    }


def _files(made: dict[str, Any], bus: Bus) -> None:
    made["channels"]["file"] = {
        "address": "sme.file.v1.{publisher}.{sha256}.{index}",
        "title": "上传文件",
        "description": "文件分块上传，先于引用它的事件；主题由内容决定，重复上传无害。",
        "messages": {"FileChunk": {"$ref": "#/components/messages/FileChunk"}},
        "parameters": {
            **_publisher(bus),
            "sha256": {"description": "整个文件的 SHA-256（小写十六进制）"},
            "index": {"description": "第几块，从0起", "examples": ["0", "1"]},
        },
        "x-jetstream": dict(bus.streams["file"]),
    }
    made["components"]["messages"]["FileChunk"] = {
        "name": "chunk",
        "title": "FileChunk",
        "summary": f"文件的一块，最多 {registry.CHUNK // 1024} KiB；整个文件最大 20 MiB",
        "contentType": "application/octet-stream",
        "payload": {"type": "string", "format": "binary"},
    }
    made["operations"]["receive.file"] = {
        "action": "receive",
        "channel": {"$ref": "#/channels/file"},
        "title": "上传文件",
        "messages": [{"$ref": "#/channels/file/messages/FileChunk"}],
    }


def _components(made: dict[str, Any], name: str, schema: Schema) -> None:
    """AsyncAPI has one room for schemas and no `$defs`. A part that is not what another event calls by its name (in two
    major versions side by side) is called by its event, too."""
    room = made["components"]["schemas"]
    whole = deepcopy(schema)
    for key in ("$schema", "$id"):
        whole.pop(key, None)
    parts = {**whole.pop("$defs"), name: whole}
    refers = {
        key: {node.get("$ref", "").rpartition("/")[2] for node in nodes(part)} for key, part in parts.items()
    }
    others = {key for key, part in parts.items() if room.get(key, part) != part}
    while more := {key for key in parts.keys() - others if refers[key] & others and key != name}:
        others |= more  # it is as the other's, but what it speaks of is not
    other = {key: f"{name}.{key}" for key in others}
    if name in other:
        raise ValueError(f"two events of the name {name}")
    for key, part in parts.items():
        for node in nodes(part):
            referred = node.get("$ref", "").rpartition("/")[2]
            if referred in other:
                node["$ref"] = f"#/$defs/{other[referred]}"
        room[other.get(key, key)] = part


def _publisher(bus: Bus) -> dict[str, Any]:
    said = "发布者代码，即贵单位账户的名称（名录中的代码）"
    return {"publisher": {"description": said, "examples": list(bus.publishers)}}


def _district(bus: Bus) -> dict[str, Any]:
    return {"district": {"description": words.FIELDS["district"], "enum": list(bus.districts)}}
