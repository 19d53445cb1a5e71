"""Publish one event to Yiqi with nats-py and print its answer. Copy it; it needs `pip install "nats-py[nkeys]"`, then

    NATS_URL=tls://bus.example:4222 NATS_CA=ca.pem NATS_SEED=440106.nk python publish.py event.json

Run it again with the same file whenever you are not sure: same id, same event, one effect.
Ends with 0: accepted (perhaps with warnings), 1: rejected, 2: never stored, 3: no answer yet.
"""

import asyncio
import json
import os
import ssl
import sys
from pathlib import Path
from typing import Any

import nats
import nats.errors
import nats.js.errors

URL, CA = os.environ.get("NATS_URL", "nats://127.0.0.1:4222"), os.environ.get("NATS_CA")
WAIT = float(os.environ.get("NATS_WAIT", "30"))


async def tell(error: Exception) -> None:
    """What the server says by itself, such as that a subject is forbidden."""
    print(f"the bus: {error!r}", file=sys.stderr)


async def publish(body: bytes) -> dict[str, Any]:
    event = json.loads(body)
    me = event["source"].split(":")[4]
    name = event["type"].removeprefix("cn.gov.gz.sme.").rpartition(".")[0]
    bus = await nats.connect(
        URL.split(","),
        nkeys_seed=os.environ.get("NATS_SEED") or None,
        tls=ssl.create_default_context(cafile=CA) if CA else None,
        tls_handshake_first=bool(CA),  # TLS from the first byte
        error_cb=tell,
        connect_timeout=10,
        allow_reconnect=False,  # a program that stays has these two otherwise:
        max_reconnect_attempts=1,  # else nats-py tries a wrong seed for two minutes, and says nothing
    )
    if len(body) + 1024 > bus.max_payload:  # headers count, too; nats-py would wait for a PubAck in vain
        raise nats.errors.MaxPayloadError
    answers = await bus.subscribe(f"sme.out.v1.{me}.event.*")  # listen before you speak
    headers = {"Nats-Msg-Id": f"{me}:{event['id']}", "Content-Type": "application/cloudevents+json"}
    ack = await bus.jetstream().publish(f"sme.in.v1.{me}.{name}", body, headers=headers)
    print(f"stored {'before ' * bool(ack.duplicate)}as {ack.seq}", file=sys.stderr)
    if ack.duplicate:  # a success too; it was answered before, or will be
        question = json.dumps({"id": event["id"]}).encode()
        status = json.loads((await bus.request(f"sme.ask.v1.{me}.event.status", question, 5)).data)
        if status["state"] != "unanswered":
            return status["answer"]  # type: ignore[no-any-return]
    async with asyncio.timeout(WAIT):
        async for message in answers.messages:  # to everything that your agency says, so look for yours
            answer: dict[str, Any] = json.loads(message.data)
            data = answer["data"]
            refused = data.get("rejected", {})  # what could not be read has no id, but a place in the stream
            of = data.get("accepted") or data.get("kept") or refused.get("id")
            if of == event["id"] or refused.get("seq") == ack.seq:
                return answer
    raise TimeoutError


try:
    # As it is: a retry must not differ by a byte.
    answer = asyncio.run(publish(Path(sys.argv[1]).read_bytes()))
except nats.js.errors.NoStreamResponseError:
    print("nobody takes this subject from you: is the code yours, is the type spelled so?", file=sys.stderr)
    sys.exit(2)
except (TimeoutError, nats.errors.NoRespondersError):
    print("no answer yet; run this again later, with the same file", file=sys.stderr)
    sys.exit(3)
except (nats.errors.Error, OSError) as error:  # a wrong seed, no server, a larger event than the bus takes
    print(f"never stored: {error!r}", file=sys.stderr)
    sys.exit(2)
print(json.dumps(answer, ensure_ascii=False, indent=2))
state = answer["type"].split(".")[-2]  # or `kept`: a version that we do not know yet, judged after an upgrade
sys.exit({"accepted": 0, "rejected": 1}.get(state, 3))
