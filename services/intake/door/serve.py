"""The door as a process: two listeners in one loop, the door itself with TLS and, apart from it, its own pages.

Nobody outside sees the pages: what is counted is no publisher's business, and who scrapes needs no certificate.
"""

import asyncio
import ipaddress
import logging
import signal
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from typing import Any

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from services.intake.door.app import CERTIFICATE, Door, create
from services.intake.door.bus import Bus
from services.intake.door.identity import Register
from shared.notices.directory import Directory
from shared.runtime import metrics
from shared.runtime.accounts import DOOR
from shared.runtime.settings import Settings

log = logging.getLogger("yiqi.door")

GRACE = 15
"""Seconds for the requests that are under way when the process is told to end."""


class Unsafe(ValueError):
    """What the door is told would let anybody read along, or nobody in."""


class _Protocol(H11Protocol):
    """uvicorn tells an application nothing of the client's certificate. The state of a connection is the one thing
    that it copies into every request of it, and no client can write there."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and (certificate := tls.getpeercert(binary_form=True)):
            self.app_state = {**self.app_state, CERTIFICATE: certificate}


class _Server(uvicorn.Server):
    """One of two in a process: signals are heard once, by `run`."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _plain(host: str) -> bool:
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"


def _server(app: Any, settings: Settings, port: int, **more: Any) -> _Server:
    return _Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=port,
            loop="none",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # nothing rests on the address of a client, so nobody need be believed
            timeout_graceful_shutdown=GRACE,
            **more,
        )
    )


def _tls(settings: Settings) -> dict[str, Any]:
    """Without a certificate of its own on loopback only: a token is all that it takes to speak for an agency."""
    if settings.door_cert is None:
        if _plain(settings.host):
            raise Unsafe("a door that others can reach needs a certificate: door_cert, door_key")
        if settings.door_ca is not None:
            raise Unsafe("no certificates are shown without TLS: door_ca needs door_cert")
        return {}
    told: dict[str, Any] = {"ssl_certfile": settings.door_cert, "ssl_keyfile": settings.door_key}
    if settings.door_ca is not None:
        # Optional: whoever shows none needs a token; one that nobody known has signed ends the handshake.
        told |= {"ssl_ca_certs": settings.door_ca, "ssl_cert_reqs": ssl.CERT_OPTIONAL}
    return told


async def run(settings: Settings) -> None:
    if settings.door_publishers is None:
        raise Unsafe("nobody would be known: door_publishers")
    bus = Bus(settings)
    register = Register(settings.door_publishers, Directory.load(settings.agencies).by_code)
    metrics.BUILD.labels(DOOR, version("yiqi")).set(1)
    door = _server(
        create(Door(bus, register)), settings, settings.door_port, http=_Protocol, **_tls(settings)
    )
    pages = _server(_pages(bus), settings, settings.port)
    connecting = asyncio.create_task(bus.run(), name="bus")

    def end() -> None:
        door.should_exit = pages.should_exit = True

    for ending in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(ending, end)
    log.info("started")
    try:
        await asyncio.gather(door.serve(), pages.serve())
    finally:
        connecting.cancel()
        with suppress(asyncio.CancelledError):
            await connecting
        await bus.close()
        log.info("stopped")


def _pages(bus: Bus) -> Starlette:
    async def live(_: Request) -> PlainTextResponse:
        return PlainTextResponse("ok\n")

    async def ready(_: Request) -> PlainTextResponse:
        return PlainTextResponse("ok\n") if await bus.answers() else PlainTextResponse("bus away\n", 503)

    async def counted(_: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return Starlette(
        routes=[
            Route("/livez", live),
            Route("/readyz", ready),
            Route("/metrics", counted),
        ]
    )
