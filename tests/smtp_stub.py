"""A scripted mail server: it can refuse, drop, reset or hang at any step, and counts what it took.

What a well-behaved server does is not here: for that, tests use aiosmtpd.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Self

End = Literal["drop", "reset", "hang", "answer"]
Step = Literal["greeting", "EHLO", "MAIL", "RCPT", "DATA", "content", "dot", "RSET", "QUIT"]

VERBS: dict[str, Step] = {
    "HELO": "EHLO",
    "EHLO": "EHLO",
    "MAIL": "MAIL",
    "RCPT": "RCPT",
    "DATA": "DATA",
    "RSET": "RSET",
    "QUIT": "QUIT",
}
ANSWERS = {"greeting": "220 stub", "DATA": "354 go on", "dot": "250 2.0.0 queued as 4711", "QUIT": "221 bye"}


@dataclass(frozen=True)
class Fault:
    """What the server does instead of answering as usual; `store` keeps the mail before that."""

    end: End
    reply: str = ""
    store: bool = False


def say(reply: str, *, store: bool = False) -> Fault:
    return Fault("answer", reply, store)


class Stub:
    """`script` gives for each step what happens on its first visits; after that `mood` decides, or everything goes
    well."""

    def __init__(
        self,
        script: Mapping[Step, Iterable[Fault | None]] | None = None,
        mood: Callable[[Step], Fault | None] = lambda step: None,
        port: int = 0,
    ) -> None:
        self.port = port
        self._mood = mood
        self._script = {step: list(faults) for step, faults in (script or {}).items()}
        self.accepted: Counter[str] = Counter()
        self.mails: list[bytes] = []
        self.envelopes: list[tuple[str, list[str]]] = []
        self.commands: list[str] = []
        self.connections = 0
        self.hanging = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._sessions: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._session, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for session in self._sessions:
            session.cancel()
        await asyncio.gather(*self._sessions, return_exceptions=True)

    def hang_up(self) -> None:
        """End every conversation."""
        for session in self._sessions:
            session.cancel()

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._sessions.add(task)
        self.connections += 1
        try:
            await self._talk(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()
            self._sessions.discard(task)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sender, recipients = "", list[str]()
        if not await self._step("greeting", reader, writer):
            return
        while line := (await reader.readline()).decode().strip():
            self.commands.append(line)
            verb = line.split()[0].upper()
            if verb == "MAIL":
                sender, recipients = line, []
            elif verb == "RCPT":
                recipients.append(line)
            if not await self._step(VERBS[verb], reader, writer) or verb == "QUIT":
                return
            if verb == "DATA" and self._last.startswith("354"):
                if not await self._content(reader, writer):
                    return
                self.envelopes.append((sender, recipients))

    async def _content(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        if self._script.get("content"):
            await reader.readline()
            if not await self._step("content", reader, writer):
                return False
        mail = b""
        while (line := await reader.readline()) != b".\r\n":
            if not line:
                return False
            mail += line[1:] if line.startswith(b".") else line
        return await self._step("dot", reader, writer, mail)

    async def _step(
        self, step: Step, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, mail: bytes = b""
    ) -> bool:
        """Whether the session goes on."""
        faults = self._script.get(step)
        fault = faults.pop(0) if faults else self._mood(step)
        if step == "dot" and (fault is None or fault.store):
            found = re.search(rb"^Message-ID: (\S+)", mail, re.MULTILINE | re.IGNORECASE)
            self.accepted[found[1].decode() if found else ""] += 1
            self.mails.append(mail)
        match fault.end if fault else "answer":
            case "drop":
                return False
            case "reset":
                # SO_LINGER 0 in effect: the peer sees RST, not FIN.
                writer.transport.abort()
                return False
            case "hang":
                self.hanging.set()
                await reader.read()
                return False
        self._last = fault.reply if fault else ANSWERS.get(step, "250 ok")
        writer.write(self._last.encode() + b"\r\n")
        await writer.drain()
        return not self._last.startswith("421")
