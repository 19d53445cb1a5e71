"""The HTTP door as a process beside a `Local`, for any test that speaks to it; no test is here."""

import json
import os
import secrets
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPSConnection
from typing import Any, Self

from services.cli.local import ROOT, Local
from services.intake.door.identity import TOKEN, line
from shared.runtime.accounts import DOOR
from shared.runtime.embedded import free_port, wait_until


@dataclass
class Door:
    """`tokens` has one for every agency of `agencies`; the file of publishers may be changed while it runs. `extra` are
    further settings (TLS). Its log is `<directory of local>/<name>.log`, as those of the services."""

    local: Local
    agencies: Iterable[str] = ()
    extra: Mapping[str, str] = field(default_factory=dict)
    name: str = "door"

    def __post_init__(self) -> None:
        self.tokens = {code: secrets.token_urlsafe(32) for code in self.agencies}
        self.publishers = self.local.directory / f"{self.name}-publishers.txt"
        self.publishers.write_text(
            "".join(line(code, TOKEN, token.encode()) + "\n" for code, token in self.tokens.items())
        )
        self.port, self.pages = free_port(), free_port()
        self.log = self.local.directory / f"{self.name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"{'https' if 'YIQI_DOOR_CERT' in self.extra else 'http'}://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        told = {k: v for k, v in self.local.environment.items() if k != "YIQI_NATS_SEEDS"}
        return {
            **{k: v for k, v in os.environ.items() if not k.startswith("YIQI_")},
            **told,
            **({"YIQI_NATS_SEED": str(seed)} if (seed := self.local.seed(DOOR)) else {}),
            "YIQI_PORT": str(self.pages),
            "YIQI_DOOR_PORT": str(self.port),
            "YIQI_DOOR_PUBLISHERS": str(self.publishers),
            **self.extra,
        }

    def start(self, *, ready: bool = True) -> Self:
        dying = ["setpriv", "--pdeathsig", "KILL"] if sys.platform == "linux" else []
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*dying, sys.executable, "-W", "error", "-m", "services.intake.door"],
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
            )
        if ready:
            wait_until(self.is_ready, 60, "the door to be ready")
        return self

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise

    def is_ready(self) -> bool:
        assert self.process
        if self.process.poll() is not None:
            raise RuntimeError(
                f"the door ended with {self.process.returncode}:\n{self.log.read_text()[-2000:]}"
            )
        return self.page("readyz") == "ok\n"

    def page(self, path: str) -> str:
        """One of its own pages; empty while it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.pages}/{path}", timeout=3) as answer:
                text: str = answer.read().decode()
                return text
        except OSError:
            return ""

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@dataclass
class Said:
    """An answer, and what stands in it."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def told(self) -> Any:
        return json.loads(self.body)


def say(
    door: Door,
    method: str,
    path: str,
    who: str | None = None,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
) -> Said:
    """As `who`, by its token; else by what `tls` shows, or as nobody."""
    made = HTTPSConnection if tls else HTTPConnection
    options: dict[str, Any] = {"context": tls} if tls else {}
    connection = made("127.0.0.1", door.port, timeout=30, **options)
    try:
        told = dict(headers or {}) | (bearer(door.tokens[who]) if who else {})
        connection.request(method, path, body, told)
        answer = connection.getresponse()
        return Said(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
    finally:
        connection.close()
