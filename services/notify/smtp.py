"""The wire: one mail to one recipient, and what the server really answered.

Retries, leases and the ledger are not here: they read the outcome and decide.
"""

import re
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import aiosmtplib
from aiosmtplib.protocol import SMTPProtocol, normalize_message_line_endings

from services.notify.address import BadAddress, mailbox

Security = Literal["plain", "starttls", "tls"]

READY, CLOSING = 354, 421
WHY_LIMIT = 300
NOTIFY = ("NOTIFY=FAILURE,DELAY",)
GOODBYE = 5.0
"""Seconds that QUIT may take: everything is already settled by then."""

# Servers repeat the address they refuse; the reason travels on, the address must not.
ADDRESS = re.compile(r"[^\s<>@]+@[^\s<>@]+")
LINE_START_DOT = re.compile(rb"^\.", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Sent:
    """The server took the mail over."""

    reply: str


@dataclass(frozen=True, slots=True)
class Later:
    """The server does not have the mail: trying again cannot send it twice."""

    why: str
    relay: bool = False
    """It is the relay that was in trouble, or the way there: no fault of this mail or of where it goes."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The server, or the form of the address, refused this mail for good."""

    why: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """The mail was written and nobody said what became of it: only a person may try again."""

    why: str


Outcome = Sent | Later | Failed | Unknown


CALLED_OFF = Later("lease lost")


class Relay:
    """A connection to the mail server, opened when needed and kept between mails, `most` of them. For one sender
    only."""

    def __init__(
        self,
        host: str,
        port: int = 25,
        *,
        hostname: str,
        security: Security = "plain",
        user: str | None = None,
        password: str | None = None,
        timeout: float = 60,
        final_timeout: float = 600,  # RFC 5321 4.5.3.2.6: giving up earlier makes duplicates
        most: int = 100,
        tls_context: ssl.SSLContext | None = None,
    ) -> None:
        """`hostname` is what we call ourselves in EHLO; looking it up could block on DNS."""
        self._final_timeout = final_timeout
        self._most = most
        self._mails = 0
        self._begun = False
        """Whether a mail was begun on the connection and not ended by the server's answer."""
        self._client = aiosmtplib.SMTP(
            hostname=host,
            port=port,
            username=user,
            password=password,
            local_hostname=hostname,
            timeout=timeout,
            use_tls=security == "tls",
            start_tls=security == "starttls",
            tls_context=tls_context,
        )

    async def deliver(
        self,
        envelope_from: str,
        to: str,
        message: bytes,
        before_data: Callable[[], Awaitable[bool]],
        envelope_id: str | None = None,
    ) -> Outcome:
        """`before_data` runs when the recipient is accepted and nothing is sent yet; False calls it off.

        Whatever it raises leaves here, and so does a cancellation; the connection is then closed.
        """
        try:
            sender, recipient = mailbox(envelope_from), mailbox(to)
        except BadAddress as error:
            return Failed(str(error))
        try:
            return await self._converse(sender, recipient, message, before_data, envelope_id)
        except BaseException:
            # Half a conversation would be continued by the next mail.
            self._client.close()
            raise

    async def greet(self) -> Mapping[str, Any] | None:
        """Connect as for a mail, and hand none over; returns the server's certificate. What goes wrong leaves here."""
        try:
            await self._ready()
        except BaseException:
            self._client.close()
            raise
        found: Mapping[str, Any] | None = self._client.get_transport_info("peercert")
        return found

    async def close(self) -> None:
        try:
            if self._client.is_connected:
                await self._client.quit(timeout=GOODBYE)
        except (aiosmtplib.SMTPException, OSError):
            pass
        finally:
            self._client.close()

    async def _converse(
        self,
        sender: str,
        recipient: str,
        message: bytes,
        before_data: Callable[[], Awaitable[bool]],
        envelope_id: str | None,
    ) -> Outcome:
        try:
            await self._ready()
            try:
                await self._mail_from(sender, envelope_id)
            except (aiosmtplib.SMTPException, OSError) as error:
                if self._mails == 1 or not _hung_up(error):
                    raise
                # It was closed between two mails, as servers do with what is idle: nothing was begun.
                self._client.close()
                await self._ready()
                await self._mail_from(sender, envelope_id)
            await self._client.rcpt(recipient, options=NOTIFY if self._tells else None)
        except (aiosmtplib.SMTPSenderRefused, aiosmtplib.SMTPRecipientRefused) as refusal:
            return self._refused(refusal.code, refusal.message)
        except (aiosmtplib.SMTPException, OSError) as error:
            # Also a 5xx: a wrong password or a full server is no fault of this mail.
            return self._given_up(error)
        if not await before_data():
            await self._forget()
            return CALLED_OFF
        return await self._data(message)

    async def _mail_from(self, sender: str, envelope_id: str | None) -> None:
        self._begun = True
        told = self._tells and envelope_id
        # Headers are enough to know a bounce by; the text need not travel back through other servers.
        await self._client.mail(sender, options=["RET=HDRS", f"ENVID={envelope_id}"] if told else None)

    @property
    def _tells(self) -> bool:
        """Whether the server reports on delivery as asked (RFC 3461)."""
        return self._client.supports_extension("dsn")

    async def _data(self, message: bytes) -> Outcome:
        """DATA in its two halves: `aiosmtplib.SMTP.data` raises the same error before and after the mail."""
        try:
            reply = await self._client.execute_command(b"DATA")
        except (aiosmtplib.SMTPException, OSError) as error:
            return self._given_up(error)
        if reply.code != READY:
            return self._refused(reply.code, reply.message)
        protocol = self._client.protocol
        if protocol is None:
            return Later("connection lost before the mail was written", relay=True)
        try:
            reply = await self._write(protocol, message)
        except Exception as error:  # noqa: BLE001  # after the first byte, not even our own bug may lead to a retry
            self._client.close()
            return Unknown(_said(error))
        if 200 <= reply.code < 300:
            self._begun = False
            return Sent(_why(reply.code, reply.message))
        # It may have answered in the middle of the mail, and would read the rest as commands.
        self._client.close()
        if 400 <= reply.code < 600:
            return self._refused(reply.code, reply.message)
        return Unknown(_why(reply.code, reply.message))

    async def _write(self, protocol: SMTPProtocol, message: bytes) -> aiosmtplib.SMTPResponse:
        stuffed = LINE_START_DOT.sub(b"..", normalize_message_line_endings(message))
        protocol.write(stuffed + b".\r\n")
        return await protocol.read_response(timeout=self._final_timeout)

    async def _ready(self) -> None:
        """A connection without a mail begun on it; one that died between two mails is replaced."""
        if self._client.is_connected and self._mails >= self._most:
            await self.close()
        if self._client.is_connected and self._begun:
            await self._forget()
        if not self._client.is_connected:
            await self._client.connect()
            self._mails = 0
            await self._client.rset()  # says EHLO too: MAIL would, and its refusal would pass for the mail's
        self._begun = False
        self._mails += 1

    async def _forget(self) -> None:
        try:
            await self._client.rset()
            self._begun = False
        except (aiosmtplib.SMTPException, OSError):
            self._client.close()

    def _refused(self, code: int, message: str) -> Outcome:
        """An answer to a mail that the server, by this very answer, does not have."""
        if 500 <= code < 600:
            return Failed(_why(code, message))
        if not 400 <= code < 500:
            self._client.close()  # no answer to what was asked: the two sides are out of step
        return Later(_why(code, message), relay=code == CLOSING or not 400 <= code < 500)

    def _given_up(self, error: Exception) -> Later:
        self._client.close()
        return Later(_said(error), relay=True)


def _hung_up(error: Exception) -> bool:
    return not isinstance(error, aiosmtplib.SMTPResponseException) or error.code == CLOSING


def _why(code: int, message: str) -> str:
    printable = "".join(c if c.isprintable() else " " for c in f"{code} {message}")
    return ADDRESS.sub("<address>", printable)[:WHY_LIMIT]


def _said(error: Exception) -> str:
    if isinstance(error, aiosmtplib.SMTPResponseException):
        return _why(error.code, error.message)
    return ADDRESS.sub("<address>", f"{type(error).__name__}: {error}")[:WHY_LIMIT]
