"""The embedded servers keep what they accepted, and leave nothing behind."""

import asyncio
import gc
import json
import smtplib
import socket
import subprocess
import sys
import urllib.request
from email import message_from_bytes
from pathlib import Path

import asyncpg
import nats
import pytest

from shared.runtime.embedded import (
    MailCatcher,
    Nats,
    Postgres,
    ServerFailed,
    eventually,
    free_port,
    wait_until,
)


def processes_of(directory: Path) -> list[str]:
    """Command lines of the processes that name the directory or work in it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(directory) in command or (process / "cwd").readlink().is_relative_to(directory):
                found.append(command)
        except OSError:  # it ended meanwhile
            continue
    return found


async def publish(url: str, body: bytes) -> None:
    client = await nats.connect(url)
    stream = client.jetstream()
    await stream.add_stream(name="KEPT", subjects=["kept.>"])
    await stream.publish("kept.one", body)
    await client.close()


async def last_message(url: str) -> bytes:
    client = await nats.connect(url)
    message = await client.jetstream().get_last_msg("KEPT", "kept.one")
    await client.close()
    return message.data or b""


async def fetch(dsn: str, query: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


def test_nats_keeps_its_streams_through_kill_and_stop(tmp_path: Path) -> None:
    with Nats(tmp_path / "nats") as server:
        url = server.url
        asyncio.run(publish(url, b"first"))
        server.kill()
        server.start()
        assert server.url == url
        assert asyncio.run(last_message(url)) == b"first"
    assert processes_of(tmp_path) == []
    with Nats(tmp_path / "nats") as again:
        assert asyncio.run(last_message(again.url)) == b"first"


def test_nats_takes_further_configuration(tmp_path: Path) -> None:
    with Nats(tmp_path / "nats", monitoring=True, config='server_name: "embedded-test"') as server:
        request = urllib.request.urlopen(f"{server.monitoring_url}/varz")  # noqa: S310 - our own http address
        with request as response:
            seen = json.load(response)
    assert (seen["server_name"], seen["max_payload"]) == ("embedded-test", 1_048_576)
    assert seen["jetstream"]["config"]["sync_always"] is True


def test_postgres_keeps_its_rows_through_kill_and_stop(tmp_path: Path) -> None:
    with Postgres(tmp_path / "pg") as server:
        server.create_database("yiqi")
        server.create_database("yiqi")
        server.sql("CREATE TABLE kept (body text); INSERT INTO kept VALUES ('第一')", database="yiqi")
        server.kill()
        server.start()
        assert asyncio.run(fetch(server.dsn("yiqi"), "SELECT body FROM kept")) == "第一"
    assert processes_of(tmp_path) == []
    with Postgres(tmp_path / "pg") as again:
        assert again.sql("SELECT body FROM kept", database="yiqi") == "第一\n"


def test_postgres_is_durable_unicode_and_asks_for_the_password(tmp_path: Path) -> None:
    with Postgres(tmp_path / "pg", settings={"max_connections": "20"}) as server:
        asked = (
            "SELECT current_setting('fsync'), current_setting('max_connections'), datlocprovider, datlocale"
        )
        assert server.sql(f"{asked} FROM pg_database WHERE datname = 'postgres'") == "on|20|b|C.UTF-8\n"
        with pytest.raises(asyncpg.InvalidPasswordError):
            asyncio.run(fetch(server.dsn(password="not it"), "SELECT 1"))
        with pytest.raises(ServerFailed, match='relation "nothing" does not exist'):
            server.sql("SELECT * FROM nothing")


def test_servers_die_with_a_killed_parent_and_their_data_does_not(tmp_path: Path) -> None:
    program = f"""
import asyncio, sys
from pathlib import Path
from shared.runtime.embedded import Nats, Postgres

async def main():  # started in threads that end at once: the servers must outlive those, not the process
    for server in (Nats(Path({str(tmp_path / "nats")!r})), Postgres(Path({str(tmp_path / "pg")!r}))):
        await asyncio.to_thread(server.start)

asyncio.run(main())
print("ready", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        alive = processes_of(tmp_path)
        assert any("nats-server" in command for command in alive)
        assert any("bin/postgres" in command for command in alive)
        parent.kill()
    wait_until(lambda: not processes_of(tmp_path), what="the end of the servers")
    with Nats(tmp_path / "nats"), Postgres(tmp_path / "pg") as server:
        assert server.sql("SELECT 1") == "1\n"


def test_a_port_is_given_to_one_process_only() -> None:
    port = free_port()
    again = f"from shared.runtime import embedded; print(embedded._hold({port}))"
    other = subprocess.run([sys.executable, "-c", again], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == "0"
    with socket.create_server(("127.0.0.1", port)):  # and to that one it is of use
        pass


def test_a_port_in_use_and_a_wrong_setting_are_reported(tmp_path: Path) -> None:
    with Nats(tmp_path / "first") as first, pytest.raises(ServerFailed, match="taken by another program"):
        Nats(tmp_path / "second", port=first.port).start()
    with pytest.raises(ServerFailed, match="unrecognized configuration parameter"):
        Postgres(tmp_path / "pg", settings={"no_such_setting": "1"}).start()
    assert processes_of(tmp_path) == []


def test_one_directory_has_one_server(tmp_path: Path) -> None:
    with Nats(tmp_path), pytest.raises(TimeoutError, match="another server's end"):
        Nats(tmp_path).start(timeout=0.1)


def test_the_mail_catcher_keeps_messages_with_their_envelope(tmp_path: Path) -> None:
    mail = b"Subject: =?utf-8?b?6YCa55+l?=\r\n\r\nbody\r\n"
    for _ in range(2):  # the second continues the numbering of the first
        with MailCatcher(tmp_path) as catcher, smtplib.SMTP("127.0.0.1", catcher.port) as client:
            client.sendmail("from@example.org", ["a/b@example.org", "c@example.org"], mail)
            catcher.refusal = "451 4.3.0 later"
            with pytest.raises(smtplib.SMTPDataError, match="later"):
                client.sendmail("from@example.org", ["d@example.org"], mail)
    assert [path.name for path in catcher.messages()] == [
        "0001-a_b@example.org.eml",
        "0002-a_b@example.org.eml",
    ]
    message = message_from_bytes(catcher.messages()[0].read_bytes())
    assert message["X-Envelope-From"] == "from@example.org"
    assert message.get_all("X-Envelope-To") == ["a/b@example.org", "c@example.org"]
    assert message.get_payload() == "body\r\n"


def test_waiting_has_an_end() -> None:
    with pytest.raises(TimeoutError, match=r"a miracle: not within 0\.05 s"):
        wait_until(lambda: False, timeout=0.05, what="a miracle")
    with pytest.raises(TimeoutError, match="a miracle"):
        asyncio.run(eventually(lambda: False, timeout=0.05, what="a miracle"))
    assert asyncio.run(eventually(lambda: asyncio.to_thread(free_port))) >= 20_000


def test_the_mail_catcher_leaves_no_connection_to_the_collector(tmp_path: Path) -> None:
    """Such as are open, or just being opened, when it stops: an unclosed socket is an error of whoever runs when it
    is collected, here of this test."""
    for _ in range(10):
        catcher = MailCatcher(tmp_path).start()
        open_ = [socket.create_connection(("127.0.0.1", catcher.port)) for _ in range(5)]
        catcher.stop()
        for one in open_:
            one.close()
        del catcher
        gc.collect()
