"""A service as a process that is started again whenever it ends, as an operator's supervisor would, and quickly.

    python -m tests.chaos.process <service> <folder> <change>,…

It loads the service once and forks it for every start: a crash then costs a tenth of a second instead of three, and a
thousand of them fit into a test. What is changed in the service, for a test to see what comes of it, is in
`changes.py`. The process id of the running one stands in `<folder>/<name>.pid`, every end in `<folder>/<name>.ends`.
"""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import uvloop

from shared.notices.load import load_all
from shared.runtime.logs import configure
from shared.runtime.settings import Settings
from tests.chaos import changes

PR_SET_PDEATHSIG = 1


def run(service: str, name: str, folder: Path, changed: Sequence[str]) -> None:
    """Until SIGTERM, which ends the running one in good order."""
    running = 0
    stopping = False

    def stop(_signal: int, _frame: object) -> None:
        nonlocal stopping
        stopping = True
        if running:
            os.kill(running, signal.SIGTERM)

    handlers = import_module(f"services.{service}.handlers")
    load_all(None)  # compiled once; the forks inherit it
    signal.signal(signal.SIGTERM, stop)
    starts = 0
    while not stopping:
        starts += 1
        began = time.monotonic()
        running = os.fork()
        if running == 0:
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            changes.begin(changed, service, folder, starts)
            _serve(service, handlers)
        (folder / f"{name}.pid").write_text(str(running))
        _, status = os.waitpid(running, 0)
        with (folder / f"{name}.ends").open("a") as ends:
            ends.write(f"{os.waitstatus_to_exitcode(status)}\n")
        running = 0
        if not stopping and time.monotonic() - began < 0.2:
            time.sleep(0.2)  # what cannot start must not take all of the machine


def _serve(service: str, handlers: Any) -> None:
    settings = Settings()
    configure(service, settings.log_level)
    try:
        uvloop.run(handlers.service.run(settings))
    except SystemExit as end:
        os._exit(end.code if isinstance(end.code, int) else 1)
    except BaseException:  # noqa: BLE001 - nothing of the parent may run in the fork
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    _, given, where, wanted = sys.argv
    names = [name for name in wanted.split(",") if name]
    changes.apply(names, given.split("-")[0])
    run(given.split("-")[0], given, Path(where), names)
