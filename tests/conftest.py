"""One NATS and one PostgreSQL for the whole run; every test gets a database and streams of its own.

No helper that makes events is here: those stand beside the tests that need them.
"""

import asyncio
import base64
import inspect
import itertools
import json
import socket
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import nkeys
import pytest
from hypothesis import settings

from shared.runtime.database import migrate
from shared.runtime.embedded import Nats, Postgres
from tests.planted import named_in_logs

TEMPLATE = "migrated"
LEAVE = 30
"""Seconds for what a test has begun to end."""
NAMED = pytest.StashKey[list[str]]()

# A commit is judged by the same examples wherever it is tested; `--hypothesis-profile=search` looks for new ones, and
# what it finds becomes an `@example` of its test.
settings.register_profile("same", derandomize=True)
settings.register_profile("search", derandomize=False)
settings.load_profile("same")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """A test that is a coroutine function runs in a loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters}
    asyncio.run(_alone(pyfuncitem.obj(**arguments)))
    return True


async def _alone(test: Coroutine[Any, Any, None]) -> None:
    """Nothing that the test has begun outlives it. `asyncio.run` cancels what is left once and then waits for ever;
    `asyncio.wait_for` of Python 3.11 can lose that one (nats-py comes back through it), so it is said again."""
    try:
        await test
    finally:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for _ in range(LEAVE):
            if not left:
                break
            for task in left:
                task.cancel()
            _, left = await asyncio.wait(left, timeout=1)
        assert not left, f"would not be cancelled: {left}"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Whatever the tests did to the services: no log of theirs tells a number or an address of a person."""
    if hasattr(session.config, "workerinput"):
        return  # one process of several (pytest-xdist): the first of them looks at what all have left
    made: pytest.TempPathFactory | None = getattr(session.config, "_tmp_path_factory", None)
    if made is None or made._basetemp is None:
        return
    if named := list(named_in_logs(made.getbasetemp())):
        session.config.stash[NAMED] = named
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash.get(NAMED, []):
        terminalreporter.write_line(f"a person is named in {line}", red=True)


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nats]:
    with Nats(tmp_path_factory.mktemp("nats"), sync_always=False) as server:
        yield server


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """Without fsync: the tests kill processes, never the machine."""
    directory = tmp_path_factory.mktemp("postgres")
    with Postgres(directory, settings={"fsync": "off", "max_connections": "60"}) as server:
        yield server


@pytest.fixture(scope="session")
def template(postgres: Postgres) -> str:
    """A database with every schema at its head, to be cloned; migrated once."""
    postgres.create_database(TEMPLATE)
    asyncio.run(migrate(postgres.dsn(TEMPLATE)))
    return TEMPLATE


@pytest.fixture(scope="session")
def _numbers() -> Callable[[], int]:
    return itertools.count(1).__next__


@pytest.fixture
def database(postgres: Postgres, template: str, _numbers: Callable[[], int]) -> Iterator[str]:
    """The name of a fresh database with all schemas."""
    name = f"test_{_numbers()}"
    postgres.sql(f'create database "{name}" template "{template}"')
    yield name
    postgres.sql(f'drop database "{name}" with (force)')


@pytest.fixture(scope="session")
def root() -> Path:
    return Path(__file__).parents[1]


@pytest.fixture(scope="session")
def hpub() -> Callable[..., None]:
    """Publish any bytes as header block and subject, as no client library would; returns when it is stored
    or refused."""

    def publish(port: int, subject: bytes, header: bytes, body: bytes, seed: Path | None = None) -> None:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=5) as connection,
            connection.makefile("rb") as answers,
        ):
            asked = json.loads(answers.readline().removeprefix(b"INFO "))
            told: dict[str, Any] = {"headers": True, "verbose": False}
            if seed:
                keys = nkeys.from_seed(bytearray(seed.read_bytes().strip()))
                sig = base64.b64encode(keys.sign(asked["nonce"].encode())).decode()
                told |= {"nkey": keys.public_key.decode(), "sig": sig}
            size = b"%d %d" % (len(header), len(header) + len(body))
            connection.sendall(b"CONNECT " + json.dumps(told).encode() + b"\r\n")
            connection.sendall(b"HPUB " + subject + b" " + size + b"\r\n" + header + body + b"\r\nPING\r\n")
            while not answers.readline().startswith(b"PONG"):
                pass

    return publish
