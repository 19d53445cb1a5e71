"""Where the mail server hands in what came back: an LMTP listener that takes what our own addresses let in.

What it says is read in `bounces.py`; this decides what follows from it, in one transaction, before it says 250. A
server that is told otherwise keeps the bounce and comes again. LMTP and not a mailbox: nothing to poll, no password,
and whoever asks for an address that we did not make is refused while he asks.
"""

import asyncio
import logging
from collections.abc import Callable
from hashlib import sha256
from uuid import UUID, uuid5

from aiosmtpd.lmtp import LMTP
from aiosmtpd.smtp import SMTP, Envelope, Session

from services.notify import bounces, store, verp
from services.notify.bounces import Bounce
from services.notify.sending import Rules, owe_undelivered
from services.notify.undelivered import Undelivered
from shared.contracts import registry
from shared.contracts.mail import MailBounced
from shared.runtime import metrics
from shared.runtime.database import passes
from shared.runtime.service import Context

log = logging.getLogger("yiqi.bounces")

MOST_BYTES = 2 << 20
"""Of a bounce: servers send back the headers, or little more."""
AT_A_TIME = 20
IDLE = 60.0


class Returns:
    """The handler of one listener, as aiosmtpd calls it."""

    def __init__(self, context: Context, rules: Callable[[], Rules]) -> None:
        self._context = context
        self._rules = rules
        settings = context.settings
        assert settings.bounce_domain
        assert settings.bounce_secret
        self._ours = (settings.bounce_domain, settings.bounce_secret.get_secret_value())
        self._room = asyncio.Semaphore(AT_A_TIME)

    async def handle_RCPT(  # noqa: N802 - aiosmtpd names it
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if envelope.rcpt_tos:
            return "452 4.5.3 one recipient at a time"
        try:
            verp.mail_of(address, *self._ours)
        except verp.Forged:
            metrics.BOUNCES.labels("forged").inc()
            return "550 5.1.1 no such address"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 go on"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        mail, raw = verp.mail_of(envelope.rcpt_tos[0], *self._ours), envelope.original_content or b""
        try:
            async with self._room:
                # Anybody's text, and regular expressions: not where everything else runs.
                found = await asyncio.to_thread(bounces.read, raw)
                await self.take(mail, found, raw)
        except Exception as error:
            if not passes(error):
                log.exception("bounce not taken", exc_info=error)
            return "451 4.3.0 try again later"
        return "250 2.0.0 taken"

    async def take(self, mail: UUID, bounce: Bounce, raw: bytes) -> None:
        """Once, however often it comes."""
        context = self._context
        async with context.delivery.transaction() as tx:
            id_ = uuid5(mail, sha256(raw).hexdigest())
            if not await store.bounced(tx.conn, id_, mail, bounce):
                return
            tx.after.append(metrics.BOUNCES.labels(bounce.kind).inc)
            owed = (
                await store.undelivered(tx.conn, mail, bounce.status or bounce.why, tx.now)
                if bounce.final
                else None
            )
            if owed is None:
                return
            stopped = bounce.dead and owed.address is not None
            if stopped and owed.address:
                await store.suppress(tx.conn, owed.address, mail, bounce.status)
            tx.after.append(metrics.MAILS.labels(owed.letter, "bounced").inc)
            tx.say(
                registry.MAIL_BOUNCED,
                owed.to,
                MailBounced(
                    mail=mail,
                    letter=owed.letter,
                    to=owed.to,
                    case=owed.case,
                    why=bounce.why,
                    kind="hard" if bounce.kind == "hard" else "soft",
                    status=bounce.status,
                    suppressed=stopped,
                ),
                mail,
                "bounced",
            )
            told = Undelivered(owed, bounce.status, stopped)
            await owe_undelivered(tx, context, self._rules(), [told])


async def listen(context: Context, rules: Callable[[], Rules]) -> None:
    """Until it is cancelled; without a port there is nothing to listen on."""
    settings = context.settings
    if not settings.bounce_port:
        await asyncio.Event().wait()
    # What these libraries log names whoever the mail is about.
    for name in ("mail", "flufl.bounce"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    loop, returns = asyncio.get_running_loop(), Returns(context, rules)
    server = await loop.create_server(
        lambda: LMTP(
            returns, data_size_limit=MOST_BYTES, hostname=settings.mail_domain, timeout=IDLE, loop=loop
        ),
        settings.bounce_host,
        settings.bounce_port,
    )
    async with server:
        await server.serve_forever()
