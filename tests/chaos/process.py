"""Services as processes that are started again whenever they end, as an operator's supervisor would, and quickly.

    python -m tests.chaos.process <socket>

One process loads all four services once. Asked over the socket, it forks a supervisor, which forks the service for each
of its starts: a crash then costs a tenth of a second instead of three, and a thousand of them fit into a test. What is
changed in the service, for a test to see what comes of it, is in `changes.py`. The process id of the running service
stands in `<folder>/<name>.pid`, every end in `<folder>/<name>.ends`.
"""

import atexit
import ctypes
import gc
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import uvloop

from services.cli.local import Local
from shared.notices.load import load_all
from shared.runtime import SERVICES
from shared.runtime.embedded import wait_until
from shared.runtime.logs import configure
from shared.runtime.settings import Settings
from tests.chaos import changes

PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Wanted:
    """One supervised service."""

    name: str
    folder: str
    log: str
    changes: tuple[str, ...]
    environment: Mapping[str, str]


# --- the asking side -------------------------------------------------------------------------------------


@dataclass
class Supervised:
    """A supervisor and its service, with as much of `subprocess.Popen` as `Local` uses."""

    pid: int
    returncode: int = -1

    def poll(self) -> int | None:
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return self.returncode
        return None

    def wait(self, timeout: float = 30) -> int:
        try:
            wait_until(lambda: self.poll() is not None, timeout, f"process {self.pid} to end")
        except TimeoutError:
            raise subprocess.TimeoutExpired(str(self.pid), timeout) from None
        return self.returncode

    def send_signal(self, signal_: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal_)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)  # the service ends with it


class Nursed(Local):
    """`Local` whose services are forked from a process that has loaded them, and changed as `changes` says."""

    def __init__(self, directory: Path, changes: Sequence[str] = (), **more: Any) -> None:
        super().__init__(directory, **more)
        self.changes = changes
        nursery()

    def spawn(self, name: str, environment: Mapping[str, str]) -> Any:
        log = str(self.directory / f"{name}.log")
        return ask(Wanted(name, str(self.directory), log, tuple(self.changes), dict(environment)))

    def ends(self, name: str) -> list[int]:
        """How the service has ended, each time."""
        file = self.directory / f"{name}.ends"
        return [int(line) for line in file.read_text().split()] if file.exists() else []


@cache
def nursery() -> Path:
    """Where the loaded process listens. It ends with the thread that calls this first: call it in the main one."""
    path = Path(tempfile.mkdtemp(prefix="yiqi-nursery-")) / "socket"
    command = ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "tests.chaos.process", str(path)]
    loaded = subprocess.Popen(command, cwd=Path(__file__).parents[2])

    def end() -> None:
        loaded.kill()
        loaded.wait()
        shutil.rmtree(path.parent)

    atexit.register(end)
    wait_until(path.exists, 60, "the services to be loaded")
    return path


def ask(wanted: Wanted) -> Supervised:
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(str(nursery()))
        line.sendall(json.dumps(asdict(wanted)).encode())
        line.shutdown(socket.SHUT_WR)
        return Supervised(int(line.recv(100)))


# --- the serving side ------------------------------------------------------------------------------------


def serve(path: str) -> None:
    services = {name: import_module(f"services.{name}.handlers").service for name in SERVICES}
    load_all(None)  # compiled once; the forks inherit it
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for a supervisor
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path + ".new")
        listener.listen(16)
        Path(path + ".new").rename(path)  # whoever finds it is answered
        while True:
            asking, _ = listener.accept()
            with asking:
                said = b""
                while part := asking.recv(1 << 16):
                    said += part
                wanted = Wanted(**json.loads(said))
                pid = os.fork()
                if pid == 0:
                    listener.close()
                    asking.close()
                    _supervise(wanted, services[wanted.name.split("-")[0]])
                asking.sendall(b"%d" % pid)


def _supervise(wanted: Wanted, service: Any) -> None:
    """Until SIGTERM, which ends the running one in good order."""
    _die_with_parent()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(wanted.environment)
    log = os.open(wanted.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    kind, folder = wanted.name.split("-")[0], Path(wanted.folder)
    changes.apply(wanted.changes, kind)
    running, stopping, starts = 0, False, 0

    def stop(_signal: int, _frame: object) -> None:
        nonlocal stopping
        stopping = True
        if running:
            os.kill(running, signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    while not stopping:
        starts += 1
        began = time.monotonic()
        running = os.fork()
        if running == 0:
            _die_with_parent()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            changes.begin(wanted.changes, kind, folder, starts)
            _run(kind, service)
        (folder / f"{wanted.name}.pid").write_text(str(running))
        _, status = os.waitpid(running, 0)
        with (folder / f"{wanted.name}.ends").open("a") as ends:
            ends.write(f"{os.waitstatus_to_exitcode(status)}\n")
        running = 0
        if not stopping and time.monotonic() - began < 0.2:
            time.sleep(0.2)  # what cannot start must not take all of the machine
    os._exit(0)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _run(kind: str, service: Any) -> None:
    settings = Settings()
    configure(kind, settings.log_level)
    try:
        uvloop.run(service.run(settings))
    except SystemExit as end:
        os._exit(end.code if isinstance(end.code, int) else 1)
    except BaseException:  # noqa: BLE001 - nothing of the parent may run in the fork
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    serve(sys.argv[1])
