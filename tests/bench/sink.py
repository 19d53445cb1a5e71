"""A mail server that takes everything, as a process of its own, for `mails.py`: aiosmtpd, as whoever measures finds it.

It keeps nothing but a line for each mail, with its id and when it came.
"""

import asyncio
import re
import sys
import time
from pathlib import Path

from aiosmtpd.smtp import SMTP, Envelope, Session

ID = re.compile(rb"^message-id:\s*(\S+)", re.IGNORECASE | re.MULTILINE)


class Sink:
    def __init__(self, log: Path) -> None:
        self._log = log.open("a", buffering=1)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd names it
        found = ID.search(envelope.original_content or b"")
        self._log.write(f"{found[1].decode() if found else '-'} {time.time()}\n")
        return "250 2.0.0 taken"


async def main(port: int, log: Path) -> None:
    loop, sink = asyncio.get_running_loop(), Sink(log)
    server = await loop.create_server(
        lambda: SMTP(sink, hostname="sink.test", loop=loop, enable_SMTPUTF8=True), "127.0.0.1", port
    )
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2])))
