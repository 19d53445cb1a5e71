"""What the door says besides taking events: its problems, its answers as models, and how OpenAPI describes them.

When which of them is said is in `app.py`.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from services.intake.door.judging import UNSUPPORTED
from shared.contracts import registry, schemas, words
from shared.contracts.envelope import CONTENT_TYPE
from shared.contracts.problem import Problem, problem
from shared.contracts.registry import EVENTS
from shared.contracts.types import Finding, Outbound, Sha256

PROBLEM_TYPE = "application/problem+json"

LARGEST_EVENT = 1024 * 1024 - 1024
"""Bytes: the bus carries 1 MiB with its headers, which are shorter than this leaves them."""
LARGEST_FILE = 20 * 1024 * 1024
"""As `FileRef` has it."""
BODY_WITHIN = 60.0
"""Seconds in which a body must have come."""
AT_A_TIME = 16
"""Requests of one agency: it can wait for itself, and never has others wait."""
RETRY_AFTER = {503: "5", 429: "1"}
"""Seconds."""


class Taken(Outbound):
    """Stored on the bus, which is not yet accepted: that says the answer at `status`."""

    id: str
    seq: int
    duplicate: Annotated[bool, Field(description="以前已经存入；同样是成功")]
    status: Annotated[str, Field(description="答复的地址")]


class Stored(Outbound):
    """A file that events may now refer to, by this hash and size."""

    sha256: Sha256
    size: int


UNAUTHENTICATED = problem(
    "unauthenticated",
    "没有证明是哪个单位",
    "请出示本单位的令牌（Authorization: Bearer …）或客户端证书",
    status=401,
)
NOWHERE = problem("nowhere", "没有这个地址", "地址见 /openapi.json", status=404)
METHOD = problem("method", "此地址没有这种方法", "方法见 /openapi.json", status=405)
SLOW = problem("slow", "没有按时传完", f"请求应在{BODY_WITHIN:.0f}秒内传完", status=408)
LARGE_EVENT = problem(
    "size",
    "事件过大",
    f"最多{LARGEST_EVENT}字节；文件请先用 PUT /files/{{sha256}} 送达，再在事件中引用",
    status=413,
)
LARGE_FILE = problem("size", "文件过大", f"最多{LARGEST_FILE}字节", status=413)
MEDIA = problem("media", "内容类型不受理", UNSUPPORTED, status=415)
ENCODED = problem("media", "内容类型不受理", "文件请原样传送，不压缩", status=415)
OTHER_FILE = problem("digest", "内容与地址不符", "内容的 SHA-256 应与地址中的一致，且不为空")
MANY = problem("many", "同时的请求过多", f"每个单位同时至多{AT_A_TIME}个，请稍候再试", status=429)
BROKEN = problem("internal", "服务出错", "请稍后以同一 id 重发，不会重复", status=500)
AWAY = problem("unavailable", "总线暂不可用", "没有确认收到；请稍后以同一 id 重发，不会重复", status=503)

EXAMPLE = {
    "specversion": "1.0",
    "id": "0b6a3c1e-6f0e-4f5c-9d7a-3a1f1d1c2b3a",
    "source": "urn:cn:gov:gz:440106:oa",
    "type": "cn.gov.gz.sme.submission.filed.v1",
    "time": "2025-03-03T09:00:00+08:00",
    "data": {
        "notice": "gz-collection-2025q1",
        "form": "F6",
        "filer": {"code": "440106", "kind": "K2", "name": "天河区商务金融局"},
        "values": {
            "company_name": "某检测有限公司",
            "equipment_name": "三坐标测量机",
            "quantity": "3台",
            "main_use": "精密零件检测",
            "contact": "张三 020-83726619",
        },
    },
}
_FAULTY = problem(
    "validation",
    "事件不符合接口契约",
    "共1处错误",
    [
        Finding(
            rule="schema", code="schema.missing", severity="hard", clause="接口契约", detail="缺少必填字段",
            pointer="#/data/notice",
        )
    ],
)  # fmt: skip
_FOREIGN = problem("identity", "发布者与主题不符", "source 应为 urn:cn:gov:gz:440106:<系统名>", status=403)
_PARAMETER = problem(
    "parameter",
    "参数不正确",
    "共1处错误",
    [
        Finding(
            rule="schema", code="schema.greater_than_equal", severity="hard", clause="接口契约",
            detail="参数 after：取值不合要求",
        )
    ],
)  # fmt: skip

Answers = dict[int | str, dict[str, Any]]


def problems(*said: Problem) -> Answers:
    """The answers of an operation that are problem documents, each with an example that is really said."""
    answers: Answers = {}
    for one in (UNAUTHENTICATED, *said, MANY, BROKEN, AWAY):
        answer = answers.setdefault(one.status, {"description": one.title, "content": {PROBLEM_TYPE: {}}})
        media = answer["content"][PROBLEM_TYPE]
        media["schema"] = {"$ref": "#/components/schemas/Problem"}
        media.setdefault("examples", {})[one.type.rpartition(":")[2]] = {
            "value": one.model_dump(mode="json", exclude_defaults=True)
        }
        if one.status in RETRY_AFTER:
            answer["headers"] = {"Retry-After": _header("多少秒后再试", {"type": "integer"}, True)}
        if one.status == 401:
            answer["headers"] = {"WWW-Authenticate": _header("Bearer", {"type": "string"}, True)}
    return answers


def _header(description: str, schema: Mapping[str, Any], required: bool) -> dict[str, Any]:
    return {"description": description, "required": required, "schema": dict(schema)}


PUBLISH: Answers = {
    202: {
        "description": "已存入总线（尚未受理）；答复见 status 所指的地址",
        "headers": {"Location": _header("与 status 相同", {"type": "string"}, True)},
    },
    **problems(_FOREIGN, SLOW, LARGE_EVENT, MEDIA, _FAULTY),
}
STATUS: Answers = {
    200: {"description": "受理（accepted）、不予受理（rejected）或尚无答复（unanswered）"},
    **problems(_PARAMETER),
}
ANSWERS: Answers = {200: {"description": "after 之后的答复，先到的在前"}, **problems(_PARAMETER)}
FILE: Answers = {
    200: {"description": "早已有了", "model": Stored},
    201: {"description": "已存入总线"},
    **problems(SLOW, LARGE_FILE, ENCODED, OTHER_FILE),
}

_ATTRIBUTES = {
    "ce-specversion": ("1.0", True),
    "ce-id": ("与 structured 方式的 id 相同；重发须用同一个", True),
    "ce-source": ("urn:cn:gov:gz:<单位代码>:<系统名>", True),
    "ce-type": ("事件类型", True),
    "ce-time": ("RFC 3339，带时区", True),
    "ce-subject": ("业务编号，不含个人信息；非 ASCII 字符用 UTF-8 百分号编码", False),
    "ce-traceparent": ("W3C Trace Context", False),
}
EVENT_BODY: dict[str, Any] = {
    # Parameters are of binary mode alone, so none can be required of both.
    "parameters": [
        {
            "name": name,
            "in": "header",
            "required": False,
            "description": f"binary 方式{'必填' if needed else '可用'}：{meaning}",
            "schema": {"type": "string", "pattern": "^[!-~]+( [!-~]+)*$", "maxLength": 512},
        }
        for name, (meaning, needed) in _ATTRIBUTES.items()
    ],
    "requestBody": {
        "required": True,
        "description": f"一个 CloudEvents 1.0 事件，最多{LARGEST_EVENT}字节。{CONTENT_TYPE}：整个事件（structured）；"
        "application/json：只有 data，其余属性在 ce- 头中（binary）",
        "content": {
            CONTENT_TYPE: {
                "schema": {"$ref": "#/components/schemas/Event"},
                "examples": {"submission.filed": {"value": EXAMPLE}},
            },
            "application/json": {
                "schema": {"type": "object"},
                "examples": {"submission.filed": {"value": EXAMPLE["data"]}},
            },
        },
    },
}
FILE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": f"文件的内容，原样，最多{LARGEST_FILE}字节",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}

SECURITY: list[dict[str, list[str]]] = [{"token": []}, {"certificate": []}]
SCHEMES = {
    "token": {"type": "http", "scheme": "bearer", "description": "交给单位的令牌；我们只存它的 SHA-256"},
    "certificate": {"type": "mutualTLS", "description": "客户端证书，按其 SHA-256 指纹认单位"},
}
ABOUT = (
    "供不能使用 NATS 的系统：以 HTTP 说的与在总线上说的是同一件事，同一主题、同一身份、同一判定。"
    "事件存入总线（202）之后由各服务审核，受理与否见 GET /events/{id}；没有把握时以同一 id 重发，总是对的。"
    "错误一律为 application/problem+json（RFC 9457）：errors 中每处有 pointer（JSON Pointer）、code（程序据此判断）、"
    "detail（中文说明）。"
)


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """What FastAPI cannot know: the events as they are published, problem documents, how an agency proves itself."""
    made: dict[str, Any] = document.setdefault("components", {}).setdefault("schemas", {})
    for title, part in made.items():  # its own, of the docstrings and fields of models
        part.pop("description", None)
        for key, one in part.get("properties", {}).items():
            one.setdefault("description", words.field((title,), key) or key)
    of_problem = schemas.of_model(Problem, "")
    of_problem["properties"]["type"]["description"] = "哪一种问题，URN"
    of_problem["properties"]["status"]["description"] = "HTTP 状态"
    said, told = ([e for e in EVENTS if e.cls == cls] for cls in ("in", "out"))
    _hoist(made, "Problem", of_problem)
    for type_ in (*said, *told):
        _hoist(made, type_.envelope.__name__, schemas.of_event(type_))
    made["Event"] = {"description": "各类事件", "anyOf": [_ref(e) for e in said]}
    feedback = {"description": "答复事件", "anyOf": [_ref(e) for e in told]}
    for name, key in (("StatusTold", "answer"), ("Answer", "event")):
        made[name]["properties"][key] = feedback
    document["components"]["securitySchemes"] = SCHEMES
    for path in document["paths"].values():
        for operation in path.values():
            operation["security"] = SECURITY
    return document


def _ref(type_: registry.EventType) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{type_.envelope.__name__}"}


def _hoist(to: dict[str, Any], title: str, schema: Mapping[str, Any]) -> None:
    """A schema of its own, with what stands in it, among those of the document."""
    text = json.dumps({k: v for k, v in schema.items() if k not in ("$schema", "$id")})
    whole = json.loads(text.replace('"#/$defs/', '"#/components/schemas/'))
    for name, part in {**whole.pop("$defs", {}), title: whole}.items():
        if to.setdefault(name, part) != part:
            raise ValueError(f"two schemas are called {name}")
