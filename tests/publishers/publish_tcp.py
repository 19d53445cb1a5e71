"""Publish one event to Yiqi over a bare TCP connection: all of the protocol, for a language without a client of NATS.

    NATS_URL=tls://bus.example:4222 NATS_CA=ca.pem NATS_SEED=440106.nk python publish_tcp.py event.json

Of what is not in Python itself it needs one function, an Ed25519 signature (`pip install cryptography`). The protocol is
lines that end with CR LF (docs.nats.io/reference/reference-protocols/nats-protocol):

    <- INFO {"nonce": "…", "max_payload": 1048576, …}      the server, first
    -> CONNECT {"nkey": "U…", "sig": "…", …}               who you are: the nonce signed with your seed
    -> PING                                                and <- PONG: it knows you; or <- -ERR 'Authorization Violation'
    -> SUB <subject> <number of yours>
    -> HPUB <subject> <where to answer> <bytes of headers> <bytes of headers and body>, then these bytes
    <- HMSG <subject> <number> <bytes of headers> <bytes of both>, then these bytes; MSG is the same without headers
    <- PING                                                now and then: answer PONG, or you are taken for dead

Ends with 0: accepted (perhaps with warnings), 1: rejected, 2: never stored, 3: no answer yet.
"""

import base64
import binascii
import json
import os
import socket
import ssl
import sys
from collections.abc import Iterator
from io import BufferedRWPair
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

URL = urlsplit(os.environ.get("NATS_URL", "nats://127.0.0.1:4222"))
CA, SEED = os.environ.get("NATS_CA"), os.environ.get("NATS_SEED")
WAIT = float(os.environ.get("NATS_WAIT", "30"))
ANSWERS, ACK, STATUS = "1", "2", "3"


def end(status: int, sentence: str) -> NoReturn:
    print(sentence, file=sys.stderr)
    sys.exit(status)


def signed(nonce: str, seed: str) -> dict[str, str]:
    """A seed is base32 of two bytes that say what it is, the 32 of an Ed25519 key, and two of a checksum."""
    key = Ed25519PrivateKey.from_private_bytes(base64.b32decode(seed + "=" * (-len(seed) % 8))[2:34])
    public = bytes([20 << 3]) + key.public_key().public_bytes_raw()  # 20 << 3 makes it begin with U, for user
    public += binascii.crc_hqx(public, 0).to_bytes(2, "little")  # CRC-16/XMODEM
    signature = base64.urlsafe_b64encode(key.sign(nonce.encode())).decode().rstrip("=")
    return {"nkey": base64.b32encode(public).decode(), "sig": signature}


def heard(server: BufferedRWPair) -> Iterator[tuple[str, bytes, bytes]]:
    """(number of the subscription, headers, body) of every message; ("", …) for a PONG."""
    for line in server:
        word, *rest = line.decode().split()
        if word == "PING":
            server.write(b"PONG\r\n")
            server.flush()
        elif word == "PONG":
            yield "", b"", b""
        elif word == "-ERR":
            end(2, f"the bus refuses: {' '.join(rest)}")
        elif word in ("MSG", "HMSG"):
            content = server.read(int(rest[-1]) + 2)[:-2]
            head = int(rest[-2]) if word == "HMSG" else 0
            yield rest[1], content[:head], content[head:]
    end(2, "the bus hung up")


def publish(path: str) -> dict[str, Any]:
    body = Path(path).read_bytes()  # sent as it is: a retry must not differ by a byte
    event = json.loads(body)
    me = event["source"].split(":")[4]
    name = event["type"].removeprefix("cn.gov.gz.sme.").rpartition(".")[0]

    tcp = socket.create_connection((URL.hostname, URL.port or 4222), timeout=WAIT)
    if CA:  # TLS from the first byte
        tcp = ssl.create_default_context(cafile=CA).wrap_socket(tcp, server_hostname=URL.hostname)
    server = tcp.makefile("rwb")
    info = json.loads(server.readline().removeprefix(b"INFO "))

    def say(line: str, content: bytes = b"") -> None:
        server.write(line.encode() + b"\r\n" + content)
        server.flush()

    hello = {"verbose": False, "headers": True, "no_responders": True, "lang": "none", "version": "1"}
    hello |= signed(info["nonce"], Path(SEED).read_text().strip()) if SEED else {}
    say(f"CONNECT {json.dumps(hello)}")
    say("PING")
    messages = heard(server)
    next(messages)  # PONG: it knows you

    inbox = f"_INBOX.{os.urandom(12).hex()}"  # where only you listen
    say(f"SUB sme.out.v1.{me}.event.* {ANSWERS}")  # listen before you speak
    say(f"SUB {inbox}.ack {ACK}")
    say(f"SUB {inbox}.status {STATUS}")
    kind = "Content-Type: application/cloudevents+json"
    head = f"NATS/1.0\r\nNats-Msg-Id: {me}:{event['id']}\r\n{kind}\r\n\r\n".encode()
    size = len(head) + len(body)
    if size > info["max_payload"]:
        end(2, f"a payload of {size} bytes; the bus takes {info['max_payload']}: send files as files")
    say(f"HPUB sme.in.v1.{me}.{name} {inbox}.ack {len(head)} {size}", head + body + b"\r\n")

    seq = None
    for number, headers, said in messages:
        if headers.startswith(b"NATS/1.0 503") and number == ACK:
            end(2, f"nobody takes sme.in.v1.{me}.{name} from you: is the code yours, is the type spelled so?")
        if number == ACK:  # {"stream": "SME_IN", "seq": 5}, or {"error": …}
            ack = json.loads(said)
            if "error" in ack:
                end(2, f"the bus refuses: {ack['error']['description']}")
            seq = ack["seq"]
            print(f"stored {'before ' * ack.get('duplicate', False)}as {seq}", file=sys.stderr)
            if ack.get("duplicate"):  # answered before, or about to be
                question = json.dumps({"id": event["id"]}).encode()
                say(f"PUB sme.ask.v1.{me}.event.status {inbox}.status {len(question)}", question + b"\r\n")
        elif number == STATUS and said and (answer := json.loads(said).get("answer")):
            return answer  # type: ignore[no-any-return]
        elif number == ANSWERS:  # to everything that your agency says, so look for yours
            answer = json.loads(said)
            data = answer["data"]
            refused = data.get("rejected", {})  # what could not be read has no id, but a place in the stream
            of = data.get("accepted") or data.get("kept") or refused.get("id")
            if of == event["id"] or (seq and refused.get("seq") == seq):
                return answer  # type: ignore[no-any-return]
    raise AssertionError("the messages never end")


try:
    answer = publish(sys.argv[1])
except TimeoutError:
    end(3, "no answer yet; run this again later, with the same file")
except OSError as error:
    end(2, f"no connection: {error}")
print(json.dumps(answer, ensure_ascii=False, indent=2))
state = answer["type"].split(".")[-2]  # or `kept`: a version that we do not know yet, judged after an upgrade
sys.exit({"accepted": 0, "rejected": 1}.get(state, 3))
