"""A real mail server between us and the world: Postfix takes our mails, brings back what nobody wants, and we know why.

It runs from a folder of its own, on loopback, as Debian ships it (`apt-get install postfix`).
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from pathlib import Path

import pytest

from services.cli.local import Local
from shared.runtime.embedded import eventually, free_port, wait_until
from tests.live.test_mails import SECRET, opened, rows, state
from tests.smtp_stub import Fault, Step, Stub, say

POSTFIX = shutil.which("postfix", path="/usr/sbin:/usr/local/sbin:" + os.environ.get("PATH", ""))
WHERE, WORLD = "bounce.test", "world.test"

pytestmark = pytest.mark.skipif(
    POSTFIX is None or os.geteuid() != 0, reason="no postfix here (apt-get install postfix), or not root"
)

MAIN = """compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
maillog_file = {folder}/log
maillog_file_prefixes = {folder}
daemon_directory = /usr/lib/postfix/sbin
command_directory = /usr/sbin
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mx.test
mydestination =
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
local_recipient_maps =
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_peername_lookup = no
relay_domains = {world}, {where}
transport_maps = inline:{{ {world}=smtp:[127.0.0.1]:{stub}, {where}=lmtp:inet:127.0.0.1:{lmtp} }}
default_transport = error:5.1.2 not in this test
notify_classes =
"""
MASTER = """127.0.0.1:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n - 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
lmtp unix - - n - - lmtp
error unix - - n - - error
retry unix - - n - - error
showq unix n - n - - showq
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


@contextmanager
def postfix(port: int, stub: int, lmtp: int) -> Iterator[Path]:
    """Its folder, with its log; not below pytest's, which its own user may not enter."""
    folder = Path(tempfile.mkdtemp(prefix="yiqi-postfix-"))
    try:
        folder.chmod(0o755)
        for name in ("conf", "queue", "data"):
            (folder / name).mkdir()
        shutil.chown(folder / "data", "postfix")
        values = {"folder": folder, "port": port, "stub": stub, "lmtp": lmtp, "world": WORLD, "where": WHERE}
        (folder / "conf" / "main.cf").write_text(MAIN.format(**values))
        (folder / "conf" / "master.cf").write_text(MASTER.format(**values))
        assert POSTFIX
        command = [POSTFIX, "-c", str(folder / "conf")]
        started = subprocess.run([*command, "start"], capture_output=True, text=True)
        assert started.returncode == 0, started.stderr + started.stdout
        try:
            yield folder
        finally:
            subprocess.run([*command, "stop"], capture_output=True)
            wait_until(
                lambda: subprocess.run([*command, "status"], capture_output=True).returncode != 0,
                20,
                "its end",
            )
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Local]:
    extra = {
        "YIQI_BOUNCE_DOMAIN": WHERE,
        "YIQI_BOUNCE_SECRET": SECRET,
        "YIQI_BOUNCE_PORT": str(free_port()),
        "YIQI_OPERATORS": f"ops@{WORLD}",
    }
    here = Local(
        tmp_path / "here",
        services=("notify",),
        sync_always=False,
        mail=False,
        accounts=False,
        extra=extra,
    )
    with here:
        yield here


async def test_a_real_server_takes_our_mails_and_its_bounces_are_understood(local: Local) -> None:
    def mood(step: Step) -> Fault | None:
        return say("550 5.1.1 no such user") if step == "RCPT" and "nobody@" in stub.commands[-1] else None

    async with Stub(mood=mood) as stub:
        with postfix(local.mails.port, stub.port, int(local.extra["YIQI_BOUNCE_PORT"])) as folder:
            good, bad = await opened(local, f"somebody@{WORLD}", f"nobody@{WORLD}")
            await eventually(lambda: state(local, good) == "sent", 20, "the one")
            await eventually(lambda: state(local, bad) == "bounced", 30, "the other to come back")
            await eventually(lambda: len(stub.mails) == 2, 20, "the mail, and the letter to a person")

            assert rows(local, f"select kind, final, status from notify.bounce where mail = '{bad}'") == [
                "hard|t|5.1.1"
            ]
            assert rows(local, "select address from notify.suppressed") == [f"nobody@{WORLD}"]
            told = {
                recipients[0]: raw for (_, recipients), raw in zip(stub.envelopes, stub.mails, strict=True)
            }
            mail = message_from_bytes(told[f"RCPT TO:<somebody@{WORLD}>"], policy=policy.default)
            assert mail["Message-ID"] == f"<m-{good}@yiqi.test>"
            assert not mail.defects
            assert f"RCPT TO:<ops@{WORLD}>" in told
            # It took the options of RFC 3461, and our addresses go through it as they are.
            log = (folder / "log").read_text()
            assert "warning" not in log, log
            assert stub.envelopes[0][0].startswith("MAIL FROM:<b+")
