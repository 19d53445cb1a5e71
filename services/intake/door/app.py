"""The HTTP door as an application: publish, ask for answers, send files; who may is decided by `identity.py`.

What an event must be is judged by the decoder (`judging.py`), what it brings about by the services that hear it.
"""

import asyncio
import hashlib
import io
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator, MutableMapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import IO, Annotated, Any, TypeVar
from urllib.parse import quote

from fastapi import APIRouter, Depends, FastAPI, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.intake.door import describe, judging
from services.intake.door.bus import Away, Bus, TooLarge
from services.intake.door.describe import Stored, Taken
from services.intake.door.identity import Register
from shared.contracts import registry
from shared.contracts.answer import AT_MOST, AnswersTold, StatusTold
from shared.contracts.problem import SAYINGS, Problem, problem
from shared.contracts.registry import CHUNK
from shared.contracts.types import Finding
from shared.runtime import metrics

CERTIFICATE = "client_certificate"
"""Where the server puts the one that it has verified, in the state of a request: nothing that a client sends gets there."""


M = TypeVar("M", bound=BaseModel)


class Refused(Exception):
    """Ends a request with a problem document."""

    def __init__(self, why: Problem) -> None:
        super().__init__(why.title)
        self.why = why


def door(request: Request) -> "Door":
    found: Door = request.app.state.door
    return found


async def publisher(request: Request) -> AsyncIterator[str]:
    """The agency that speaks, for as long as its request lasts."""
    who = door(request).register.who(
        request.headers.get("authorization"), getattr(request.state, CERTIFICATE, None)
    )
    if who is None:
        raise Refused(describe.UNAUTHENTICATED)
    with door(request).turn(who):
        yield who


Who = Annotated[str, Depends(publisher)]
Id = Annotated[str, Path(pattern=r"^[!-~]{1,128}$", description="事件的 id，百分号编码")]

routes = APIRouter()


@routes.post(
    "/events",
    name="publish",
    operation_id="publish",
    summary="发布一个事件",
    status_code=202,
    response_model=Taken,
    responses=describe.PUBLISH,
    openapi_extra=describe.EVENT_BODY,
)
async def publish(request: Request, response: Response, who: Who) -> Taken:
    attributes = judging.headers(request.headers.raw, request.headers.get("content-type", ""))
    if isinstance(attributes, Problem):
        raise Refused(attributes)
    body = io.BytesIO()
    await _read(request, body, describe.LARGE_EVENT, describe.LARGEST_EVENT)
    event = judging.judge(who, attributes, body.read(), datetime.now(UTC))
    if isinstance(event, Problem):
        raise Refused(event)
    if len(event.body) > describe.LARGEST_EVENT:
        raise Refused(describe.LARGE_EVENT)
    try:
        ack = await door(request).bus.publish(who, event)
    except TooLarge:
        raise Refused(describe.LARGE_EVENT) from None
    status = f"/events/{quote(event.id, safe='')}"
    response.headers["Location"] = status
    return Taken(id=event.id, seq=ack.seq, duplicate=bool(ack.duplicate), status=status)


@routes.get(
    "/events/{id:path}",
    name="status",
    operation_id="status",
    summary="一个事件的答复",
    response_model=StatusTold,
    response_model_exclude_none=True,
    responses=describe.STATUS,
)
async def status(request: Request, who: Who, id: Id) -> StatusTold:  # noqa: A002 - the parameter's name in OpenAPI
    return await _told(request, who, registry.EVENT_STATUS, {"id": id}, StatusTold)


@routes.get(
    "/events",
    name="answers",
    operation_id="answers",
    summary="本单位全部事件的答复",
    response_model=AnswersTold,
    response_model_exclude_none=True,
    responses=describe.ANSWERS,
)
async def answers(
    request: Request,
    who: Who,
    after: Annotated[int, Query(ge=0, le=2**53, description="上次所得的 last；0：从头")] = 0,
    limit: Annotated[int, Query(ge=1, le=AT_MOST, description="至多多少条")] = AT_MOST,
) -> AnswersTold:
    return await _told(request, who, registry.EVENT_ANSWERS, {"after": after, "limit": limit}, AnswersTold)


@routes.put(
    "/files/{sha256}",
    name="file",
    operation_id="file",
    summary="送达一个文件，供随后的事件引用",
    status_code=201,
    response_model=Stored,
    responses=describe.FILE,
    openapi_extra=describe.FILE_BODY,
)
async def file(
    request: Request,
    response: Response,
    who: Who,
    sha256: Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="内容的 SHA-256，十六进制小写")],
) -> Stored:
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused(describe.ENCODED)
    with tempfile.TemporaryFile() as kept:
        # Whole before its first chunk is said: the bus keeps the first of each, so a wrong one would stay for good.
        size, digest = await _read(request, kept, describe.LARGE_FILE, describe.LARGEST_FILE)
        if not size or digest != sha256:
            raise Refused(describe.OTHER_FILE)
        new = await door(request).bus.store(who, sha256, iter(lambda: kept.read(CHUNK), b""))
    response.status_code = 201 if new else 200
    return Stored(sha256=sha256, size=size)


async def _read(request: Request, to: IO[bytes], large: Problem, most: int) -> tuple[int, str]:
    """The body into a file; its size and digest. What is too large is read to the double and not kept: whoever is
    still sending does not hear an answer."""
    size, digest = 0, hashlib.sha256()
    try:
        async with asyncio.timeout(describe.BODY_WITHIN):
            async for part in request.stream():
                size += len(part)
                if size <= most:
                    digest.update(part)
                    to.write(part)
                elif size > 2 * most:
                    break
    except TimeoutError:
        raise Refused(describe.SLOW) from None
    if size > most:
        raise Refused(large)
    to.seek(0)
    return size, digest.hexdigest()


async def _told(request: Request, who: str, ask: registry.Ask, question: dict[str, Any], told: type[M]) -> M:
    answer = await door(request).bus.ask(ask.subject(who), question)
    try:
        return told.model_validate(answer)
    except ValidationError:
        pass
    try:
        why = Problem.model_validate(answer)
    except ValidationError:
        raise Away from None
    raise Refused(why)


class Door:
    """What stands behind the application."""

    def __init__(self, bus: Bus, register: Register) -> None:
        self.bus, self.register = bus, register
        self._busy: Counter[str] = Counter()

    @contextmanager
    def turn(self, who: str) -> Iterator[None]:
        if self._busy[who] >= describe.AT_A_TIME:
            raise Refused(describe.MANY)
        self._busy[who] += 1
        try:
            yield
        finally:
            self._busy[who] -= 1


class _Counted:
    """Counts what is answered, by operation and status; nothing is kept by whoever stands between."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        status = 500

        async def answered(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"cache-control", b"no-store")]
            await send(message)

        try:
            await self._app(scope, receive, answered)
        finally:
            kind = getattr(scope.get("route"), "name", None) or "other"
            metrics.ANSWERS.labels(kind, str(status)).inc()


def create(behind: Door | None) -> FastAPI:
    """With nobody behind it, it can only be described."""
    app = FastAPI(
        title="Yiqi HTTP door",
        version="1.0.0",
        openapi_url="/openapi.json",
        docs_url=None,  # they would load their script from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.door = behind
    app.include_router(routes)
    app.add_middleware(_Counted)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(Away, _away)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _parameters)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _broken)

    def described() -> dict[str, Any]:
        if not app.openapi_schema:
            made = get_openapi(
                title=app.title, version=app.version, description=describe.ABOUT, routes=app.routes
            )
            app.openapi_schema = describe.complete(made)
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]  # as FastAPI's manual has it
    return app


def _said(why: Problem, headers: MutableMapping[str, str] | None = None) -> Response:
    told = dict(headers or {})
    if why.status in describe.RETRY_AFTER:
        told["Retry-After"] = describe.RETRY_AFTER[why.status]
    if why.status == 401:
        told["WWW-Authenticate"] = "Bearer"
    return Response(
        why.model_dump_json(exclude_none=True), why.status, told, media_type=describe.PROBLEM_TYPE
    )


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return _said(error.why)


async def _away(_: Request, error: Exception) -> Response:
    return _said(describe.AWAY)


async def _http(_: Request, error: Exception) -> Response:
    """Of the framework's own: no such address, no such method."""
    assert isinstance(error, HTTPException)
    known = {404: describe.NOWHERE, 405: describe.METHOD}
    why = known.get(error.status_code) or problem(
        "request", "请求不受理", "见 /openapi.json", status=error.status_code
    )
    return _said(why, dict(error.headers or {}))


async def _parameters(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = [
        Finding(
            rule="schema",
            code=f"schema.{e['type']}",
            severity="hard",
            clause="接口契约",
            detail=f"参数 {e['loc'][-1]}：{SAYINGS.get(e['type'], '取值不合要求')}",
        )
        for e in error.errors()
    ]
    return _said(problem("parameter", "参数不正确", f"共{len(found)}处错误", found))


async def _gone(_: Request, error: Exception) -> Response:
    return Response(status_code=400)  # nobody reads it


async def _broken(_: Request, error: Exception) -> Response:
    return _said(describe.BROKEN)
