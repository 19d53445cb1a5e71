"""`yiqi up`: everything on this machine, from wheels, under one supervisor; also what the demo and the tests run.

Not for production: there the operator's own NATS, PostgreSQL and relay are used.
"""

import asyncio
import json
import os
import secrets
import shlex
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, Self

from nats.aio.client import Client

from services.cli import nats
from services.cli.common import LOCAL, console
from shared.notices.directory import Directory
from shared.runtime import SERVICES
from shared.runtime.accounts import DESK, OPERATOR, PROVISIONER, USERS
from shared.runtime.connection import connect
from shared.runtime.database import migrate
from shared.runtime.embedded import MailCatcher, Nats, Postgres, free_port, wait_until
from shared.runtime.settings import Settings
from shared.runtime.streams import provision as provision_streams

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Local:
    """NATS, PostgreSQL, a mail catcher and the four services, all below one folder.

    `start()` to `stop()`, or as a context manager. `environment` is what another process needs to reach it.
    """

    directory: Path
    processes: int = 1
    sync_always: bool = True
    mail: bool = True
    extra: Mapping[str, str] = field(default_factory=dict)
    services: tuple[str, ...] = SERVICES
    accounts: bool = True
    """Without them everybody may say and hear everything: only for tests that do what nobody may."""
    replicas: int = 1  # of the streams; more than one when `nats` is a node of a cluster

    def __post_init__(self) -> None:
        self.directory = self.directory.resolve()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.nats = Nats(self.directory / "nats", sync_always=self.sync_always)
        if self.accounts:
            mounted = self.extra.get("YIQI_AGENCIES")
            nats.keep(self.keys, Directory.load(Path(mounted) if mounted else None).by_code)
            self.nats.config = (self.keys / nats.ACCOUNTS).read_text()
        self.postgres = Postgres(self.directory / "postgres")
        self.mails = MailCatcher(self.directory / "mail")
        self.clock = self.directory / "clock"
        self.clock.write_text("0")
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.ports = {name: free_port() for name in self.names}
        self._passwords = {name: secrets.token_urlsafe(16) for name in SERVICES}
        self._logs: dict[str, IO[bytes]] = {}
        self._stopping = threading.Event()
        self.restarts = 0

    @property
    def names(self) -> list[str]:
        """Process names: `intake`, `intake-2`, …"""
        return [f"{s}-{n + 1}" if n else s for s in self.services for n in range(self.processes)]

    @property
    def keys(self) -> Path:
        return self.directory / "keys"

    def seed(self, who: str) -> Path | None:
        """Of a user of the bus or of an agency; of the desk for an applicant that is not listed."""
        if not self.accounts:
            return None
        own = self.keys / nats.SEEDS / f"{who}.nk"
        return own if own.exists() else self.keys / nats.SEEDS / f"{DESK}.nk"

    async def connect(self, who: str = OPERATOR) -> Client:
        """On the bus as somebody."""
        seed = self.seed(who)
        user = seed.stem if seed and seed.stem in USERS else who
        told = {k.removeprefix("YIQI_").lower(): v for k, v in self.environment.items() if "_NATS_" in k}
        return await connect(Settings.model_validate(told), seed, user)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "YIQI_NATS_URL": self.nats.url,
            **({"YIQI_NATS_SEEDS": str(self.keys / nats.SEEDS)} if self.accounts else {}),
            "YIQI_DATABASE_URL": self.postgres.dsn("yiqi"),
            "YIQI_CLOCK": str(self.clock),
            "YIQI_SENDING_HOURS": "",  # whoever tries it out at night is not to wait for the morning
            **self.extra,
        }

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, timeout: float = 90) -> Self:
        self.infrastructure()
        for name in self.names:
            self.launch(name)
        self.ready(timeout)
        return self

    def infrastructure(self) -> None:
        """Servers, schemas, streams: all but the services."""
        self.nats.start()
        self.postgres.start()
        if self.mail:
            self.mails.start()
        if not self.postgres.sql("select 1 from pg_database where datname = 'yiqi'").strip():
            self.postgres.create_database("yiqi")
        asyncio.run(self._provision())

    async def _provision(self) -> None:
        await migrate(self.postgres.dsn("yiqi"), passwords=self._passwords)
        client = await self.connect(PROVISIONER)
        await provision_streams(client.jetstream(timeout=10), replicas=self.replicas)
        await client.close()

    def launch(self, name: str) -> None:
        """Start one service process; its log is `<name>.log`."""
        service = name.split("-")[0]
        if name not in self._logs:
            self._logs[name] = (self.directory / f"{name}.log").open("ab")
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("YIQI_")},
            **{k: v for k, v in self.environment.items() if k != "YIQI_NATS_SEEDS"},
            **({"YIQI_NATS_SEED": str(seed)} if (seed := self.seed(service)) else {}),
            "YIQI_DATABASE_URL": self.postgres.dsn("yiqi", f"yiqi_{service}", self._passwords[service]),
            "YIQI_PORT": str(self.ports[name]),
            "YIQI_SMTP_PORT": str(self.mails.port),
            "YIQI_MAIL_DOMAIN": "yiqi.test",
            "YIQI_MAIL_FROM": "yiqi@yiqi.test",
        }
        self.running[name] = self.spawn(name, environment)

    def spawn(self, name: str, environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
        dying = ["setpriv", "--pdeathsig", "KILL"] if sys.platform == "linux" else []
        return subprocess.Popen(
            [*dying, sys.executable, "-m", "services.run", name.split("-")[0]],
            env=environment,
            stdout=self._logs[name],
            stderr=subprocess.STDOUT,
            cwd=ROOT,
        )

    def ready(self, timeout: float = 90) -> None:
        """Wait until every service says so itself."""
        for name in self.names:
            wait_until(lambda name=name: self._is_ready(name), timeout, f"{name} to be ready")  # type: ignore[misc]

    def _is_ready(self, name: str) -> bool:
        if self.running[name].poll() is not None:
            log = (self.directory / f"{name}.log").read_text()[-2000:]
            raise RuntimeError(f"{name} ended with {self.running[name].returncode}:\n{log}")
        return self.page(name, "readyz") == "ok\n"

    def page(self, name: str, path: str) -> str:
        """A health page or the metrics of one process; empty while it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[name]}/{path}", timeout=3) as answer:
                text: str = answer.read().decode()
                return text
        except OSError:
            return ""

    def kill(self, name: str) -> None:
        """SIGKILL, as a crash would."""
        self.running[name].kill()
        self.running[name].wait()

    def supervise(self) -> None:
        """Restart what ended, until `stop`; a process that crashes on a bug must not end the whole."""
        while not self._stopping.wait(0.1):
            for name, process in list(self.running.items()):
                if process.poll() is not None and not self._stopping.is_set():
                    self.restarts += 1
                    self.launch(name)

    def stop(self) -> None:
        self._stopping.set()
        for process in self.running.values():
            process.send_signal(signal.SIGTERM)
        for process in self.running.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.running.clear()
        for log in self._logs.values():
            log.close()
        self._logs.clear()
        if self.mail:
            self.mails.stop()
        self.postgres.stop()
        self.nats.stop()


def elsewhere(here: Path, environment: Mapping[str, str]) -> list[str]:
    """How another terminal finds what runs here: by this folder, else by the variables."""
    variables = ("YIQI_NATS_URL", "YIQI_NATS_SEEDS", "YIQI_DATABASE_URL", "YIQI_CLOCK")
    return [
        f"另开终端：在文件夹 {here} 中运行 yiqi 的其他命令即可；在别的文件夹中先设置：",
        *(f"export {name}={shlex.quote(environment[name])}" for name in variables if name in environment),
    ]


def up(directory: Path) -> None:
    """Run everything until SIGINT or SIGTERM."""
    local = Local(directory, extra={"YIQI_CATALOGUES": str((directory / "catalogues").resolve())})
    local.start()
    LOCAL.parent.mkdir(parents=True, exist_ok=True)
    LOCAL.write_text(json.dumps(local.environment))
    LOCAL.chmod(0o600)
    console.print("[bold]益企已就绪[/bold]（Ctrl-C 停止）")
    console.print(f"NATS        {local.nats.url}")
    for name in local.names:
        console.print(f"{name:<11} http://127.0.0.1:{local.ports[name]}/readyz")
    console.print(f"邮件        {local.mails.directory}")
    console.print(f"目录        {directory / 'catalogues'}")
    for line in elsewhere(Path.cwd(), local.environment):
        console.print(line, markup=False, soft_wrap=True)

    def end(_signal: int, _frame: FrameType | None) -> None:
        local._stopping.set()

    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    try:
        local.supervise()
    finally:
        LOCAL.unlink(missing_ok=True)
        local.stop()
