"""Three nats-servers on loopback as one cluster: ended, stopped and damaged one by one, and read one by one.

What is published to it and what must come of that is in the tests.
"""

import asyncio
import json
import os
import signal
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import nats.errors
from nats.aio.client import Client

from shared.runtime.embedded import HOST, Nats, eventually, free_port, wait_until

AT_A_TIME = 200
"""Requests in flight when a stream is read."""


class Cluster:
    """As deployed: three replicas, `sync_interval: always`. A node keeps its place through any restart."""

    def __init__(self, directory: Path, size: int = 3, *, sync_always: bool = True) -> None:
        routes = [free_port() for _ in range(size)]
        known = ", ".join(f'"nats://{HOST}:{port}"' for port in routes)
        self.nodes = [
            Nats(
                directory / f"n{i}",
                sync_always=sync_always,
                monitoring=True,
                config=f"""
server_name: n{i}
lame_duck_grace_period: 1s
lame_duck_duration: 30s
cluster {{ name: yiqi, listen: {HOST}:{route}, routes: [{known}] }}
""",
            )
            for i, route in enumerate(routes)
        ]

    @property
    def urls(self) -> list[str]:
        return [node.url for node in self.nodes]

    def start(self) -> Self:
        for node in self.nodes:
            node.start()
        for i in range(len(self.nodes)):
            self.healthy(i)
        return self

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # --- one node ---

    def page(self, i: int, path: str) -> dict[str, Any]:
        """What a node says of itself on its monitoring port; empty while it does not answer."""
        try:
            url = f"{self.nodes[i].monitoring_url}/{path}"
            with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - our own http address
                said: dict[str, Any] = json.load(answer)
                return said
        except (OSError, ValueError):
            return {}

    def healthy(self, i: int, timeout: float = 60) -> None:
        """Wait until a node has caught up with the others in every stream and consumer; only then may the next be
        restarted."""
        wait_until(lambda: self.page(i, "healthz").get("status") == "ok", timeout, f"n{i} to be healthy")

    def restart(self, i: int) -> None:
        self.nodes[i].start(60)
        self.healthy(i)

    def signal(self, i: int, what: signal.Signals) -> None:
        pid = self.nodes[i].pid
        assert pid
        os.kill(pid, what)

    def lame_duck(self, i: int) -> None:
        """Have a node send its clients and leaders away, and end."""
        self.signal(i, signal.SIGUSR2)
        process = self.nodes[i]._process
        assert process
        process.wait(60)

    def streams(self, i: int) -> dict[str, dict[str, Any]]:
        """The state of every stream as this very node has it, leader or not."""
        said = self.page(i, "jsz?accounts=true&streams=true")
        return {
            stream["name"]: stream["state"]
            for account in said.get("account_details", ())
            for stream in account.get("stream_detail", ())
        }

    def holes(self, i: int) -> int:
        """How many messages a node lacks of streams from which nobody can take any."""
        states = self.streams(i).values()
        return sum(state["last_seq"] - state["messages"] for state in states)

    def store(self, i: int, stream: str) -> Path:
        """Where a node keeps a stream."""
        return self.nodes[i].directory / "jetstream" / "jetstream" / "$G" / "streams" / stream

    # --- leaders ---

    async def leader(self, client: Client, stream: str) -> int:
        """The node that leads a stream."""

        async def found() -> str | None:
            with suppress(nats.errors.Error):
                answer = json.loads((await client.request(f"$JS.API.STREAM.INFO.{stream}", timeout=2)).data)
                name = (answer.get("cluster") or {}).get("leader")
                return str(name) if name else None
            return None

        name = await eventually(found, 60, f"a leader of {stream}")
        assert name
        return int(name.removeprefix("n"))

    async def step_down(self, client: Client, what: str, to: int | None = None) -> None:
        """`what` is a stream, or `stream.consumer`; whoever leads it hands over."""
        kind = "CONSUMER" if "." in what else "STREAM"
        wish = json.dumps({"placement": {"preferred": f"n{to}"}}).encode() if to is not None else b""
        with suppress(nats.errors.Error):  # amid an election nobody answers: then it has stepped down already
            await client.request(f"$JS.API.{kind}.LEADER.STEPDOWN.{what}", wish, timeout=5)

    async def lead(self, client: Client, stream: str, i: int) -> None:
        """Make one node the leader of a stream."""

        async def leads() -> bool:
            if await self.leader(client, stream) == i:
                return True
            await self.step_down(client, stream, to=i)
            return False

        await eventually(leads, 60, f"n{i} to lead {stream}")

    async def read(self, client: Client, stream: str, i: int) -> list[tuple[int, str, bytes]]:
        """Everything that one node has of a stream, by sequence, with a hole left out: it is made the leader, because
        only a leader answers."""
        await self.lead(client, stream, i)
        last = self.streams(i)[stream]["last_seq"]
        found: list[tuple[int, str, bytes]] = []
        for start in range(1, last + 1, AT_A_TIME):
            part = range(start, min(start + AT_A_TIME, last + 1))
            found += [m for m in await asyncio.gather(*(_get(client, stream, n) for n in part)) if m]
        return found


async def _get(client: Client, stream: str, seq: int) -> tuple[int, str, bytes] | None:
    answer = json.loads(
        (await client.request(f"$JS.API.STREAM.MSG.GET.{stream}", b'{"seq": %d}' % seq, timeout=10)).data
    )
    if "error" in answer:
        assert answer["error"]["code"] == 404, answer["error"]
        return None
    message = answer["message"]
    return message["seq"], message["subject"], message.get("data", "").encode()
