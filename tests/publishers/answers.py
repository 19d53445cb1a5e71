"""Ask Yiqi for all answers since the last time, with nats-py: for a system that was away. Copy it, and `publish.py`'s needs.

    NATS_URL=tls://bus.example:4222 NATS_CA=ca.pem NATS_SEED=440106.nk python answers.py 440106 answers.last

Prints one answer a line. The number of the last one stays in the file; without it all begins at the first.
"""

import asyncio
import json
import os
import ssl
import sys
from pathlib import Path

import nats

URL, CA = os.environ.get("NATS_URL", "nats://127.0.0.1:4222"), os.environ.get("NATS_CA")


async def since(me: str, last: int) -> int:
    bus = await nats.connect(
        URL.split(","),
        nkeys_seed=os.environ.get("NATS_SEED") or None,
        tls=ssl.create_default_context(cafile=CA) if CA else None,
        tls_handshake_first=bool(CA),
        connect_timeout=10,
        allow_reconnect=False,
        max_reconnect_attempts=1,
    )
    more = True
    while more:
        question = json.dumps({"after": last}).encode()
        page = json.loads((await bus.request(f"sme.ask.v1.{me}.event.answers", question, 10)).data)
        for answer in page["answers"]:
            print(json.dumps(answer["event"], ensure_ascii=False))
        last, more = page["last"], page["more"]
    await bus.close()
    return last


me, kept = sys.argv[1], Path(sys.argv[2])
last = asyncio.run(since(me, int(kept.read_text()) if kept.exists() else 0))
kept.write_text(str(last))  # only now: what was not taken in is asked for again
