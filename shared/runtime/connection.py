"""A connection to the bus as somebody: which seed signs, over which TLS, and where answers come in.

Who may do what with it is in `accounts.py`; the services connect through FastStream, with the same TLS.
"""

import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from nats.aio.client import Client

from shared.runtime import shim
from shared.runtime.accounts import inbox
from shared.runtime.settings import Settings


def tls(settings: Settings) -> ssl.SSLContext | None:
    """From the first byte: nats-py would otherwise follow a server, or whoever stands between, that asks for none."""
    if not (settings.nats_ca or settings.nats_cert):
        return None
    context = ssl.create_default_context(cafile=settings.nats_ca)
    if settings.nats_cert:
        context.load_cert_chain(settings.nats_cert, settings.nats_key)
    return context


async def connect(
    settings: Settings,
    seed: Path | None,
    user: str,
    *,
    error_cb: Callable[[Exception], Awaitable[None]] | None = None,
) -> Client:
    """At once or not at all, for commands: what goes wrong is the caller's to tell, and nobody else's."""
    shim.read()
    context = tls(settings)
    if context:
        logging.getLogger("asyncio").setLevel(logging.ERROR)  # it warns of the way in which nats-py closes
    # Without a number of attempts it would try for two minutes before it says that there is no server.
    client = Client()
    await client.connect(
        settings.nats_servers,
        nkeys_seed=str(seed) if seed else None,
        tls=context,
        tls_handshake_first=context is not None,
        inbox_prefix=inbox(user).encode(),
        allow_reconnect=False,
        connect_timeout=3,
        max_reconnect_attempts=1,
        reconnect_time_wait=0.2,  # type: ignore[arg-type]  # seconds, and nats-py takes parts of one
        error_cb=error_cb or _quiet,
    )
    return client


async def _quiet(error: Exception) -> None:
    return None


def certificate(client: Client) -> Mapping[str, Any] | None:
    """Of the server that we are connected to, None without TLS; nats-py has no public way to it."""
    writer = getattr(client._transport, "_io_writer", None)
    return writer.get_extra_info("peercert") if writer else None


def good_until(client: Client) -> float:
    """The moment at which that ends, as Prometheus has moments; 0 without TLS."""
    told = certificate(client)
    return float(ssl.cert_time_to_seconds(told["notAfter"])) if told else 0


def forbidden(error: Exception) -> bool:
    """Whether the server has refused a subject. Whoever published gets nothing but a missing answer."""
    return "permissions violation" in str(error).lower()
