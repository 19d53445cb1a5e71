"""Changes services from outside, in tests: Python reads this when PYTHONPATH names this folder.

`SABOTAGE` lists what is changed. No code of the product knows of it, and nothing is changed without it.
"""

import asyncio
import contextlib
import importlib.abc
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any


def hasten(streams: ModuleType) -> None:
    """What a dead process held comes again after 3 s instead of 60: nothing else, but a test can wait for it."""
    streams.ACK_WAIT = 3  # type: ignore[attr-defined]


def idle(service: ModuleType) -> None:
    """The server is not told that work goes on."""

    async def idling(state: Any) -> None:
        pass

    service._State._keep = idling


def deaf(service: ModuleType) -> None:
    """A step that loses its cancellation, as one in `asyncio.wait_for` of Python 3.11 does now and then."""

    async def watching(state: Any) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    service._State._watch = watching


def dawdle(store: ModuleType) -> None:
    """The moment in which a mail is delivered and not yet settled lasts 100 ms, so that kills hit it."""
    settle = store.settle

    async def dawdling(*arguments: Any) -> Any:
        await asyncio.sleep(0.1)
        return await settle(*arguments)

    store.settle = dawdling  # type: ignore[attr-defined]


def forget(store: ModuleType) -> None:
    """The ledger's promise broken: what a dead worker left after DATA is sent again, as a queue would do."""
    recover = store.recover

    async def forgetting(conn: Any, workers: Sequence[int], *more: Any) -> Any:
        await conn.execute(
            "update notify.mail set state = 'claimed' where state = 'data' and worker = any(:workers)",
            {"workers": list(workers)},
        )
        return await recover(conn, workers, *more)

    store.recover = forgetting  # type: ignore[attr-defined]


def impatient(delivery: ModuleType) -> None:
    """What speaks of nothing known is told so after a second instead of a minute."""
    delivery.WAITS = (0.2, 0.3, 0.5)  # type: ignore[attr-defined]


def bare(shim: ModuleType) -> None:
    """nats-py as it comes, where nobody has installed another parser of headers."""
    shim.install = lambda: vars(shim.nats.aio.client).update(parse_email=None)  # type: ignore[attr-defined]


def halfway(pending: ModuleType) -> None:
    """The first process that makes the mail of a morning ends when that is written and its items are not."""
    become, there = pending._become, Path(os.environ["HALFWAY"])

    def first() -> bool:
        try:
            there.touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    async def becoming(conn: Any, letters: Sequence[Any], state: str, *more: Any) -> Any:
        if state == "merged" and first():
            os._exit(137)
        return await become(conn, letters, state, *more)

    pending._become = becoming  # type: ignore[attr-defined]


def later(registry: ModuleType) -> None:
    """A release that knows the next major of an event: one field more, and required, so neither reads the other."""

    class SubmissionFiled2(registry.submission.SubmissionFiled):  # type: ignore[misc, name-defined]
        channel: str

    of = registry.SUBMISSION_FILED
    second = registry.EventType(of.name, of.cls, SubmissionFiled2, of.says, of.hears, major=2)
    registry.EVENTS += (second,)  # type: ignore[attr-defined]
    registry._BY_NAME[of.cls, of.name] = (second, of)


def strict(registry: ModuleType) -> None:
    """The promise broken: what only a later release can know is a fault of its publisher."""
    registry.is_later = lambda *_: False  # type: ignore[attr-defined]


CHANGES: dict[str, tuple[str, Callable[[ModuleType], None]]] = {
    "hasten": ("shared.runtime.streams", hasten),
    "idle": ("shared.runtime.service", idle),
    "deaf": ("shared.runtime.service", deaf),
    "dawdle": ("services.notify.store", dawdle),
    "impatient": ("shared.runtime.delivery", impatient),
    "bare": ("shared.runtime.shim", bare),
    "forget": ("services.notify.store", forget),
    "later": ("shared.contracts.registry", later),
    "strict": ("shared.contracts.registry", strict),
    "halfway": ("services.notify.pending", halfway),
}


class _After(importlib.abc.MetaPathFinder):
    """Lets a module be imported as always, then changes it."""

    def __init__(self, name: str, change: Callable[[ModuleType], None]) -> None:
        self.name, self.change = name, change

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self.name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        assert spec
        assert spec.loader
        execute = spec.loader.exec_module

        def executed(module: ModuleType) -> None:
            execute(module)
            self.change(module)

        spec.loader.exec_module = executed  # type: ignore[method-assign]
        return spec


for _name in filter(None, os.environ.get("SABOTAGE", "").split(",")):
    sys.meta_path.insert(0, _After(*CHANGES[_name]))
