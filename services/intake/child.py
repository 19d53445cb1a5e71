"""Workbooks from outside, opened in a process that may take no more than its share: asyncio API and server.

What is done with a workbook is not here (`workbook.py`, `marking.py`).

A server process with the libraries loaded and nothing of our environment forks a worker for every file: a few
milliseconds instead of half a second. The worker takes the request, limits itself, answers in JSON and ends.
A minder between the two waits for it and adds one byte, the signal that ended it; so the server never waits.
"""

import asyncio
import atexit
import contextlib
import ctypes
import gc
import json
import logging
import math
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from services.intake.sheets import MB, Compiled, RawRow, Sheet, Unusable, is_word
from shared.contracts.types import Finding
from shared.notices.model import Notice

log = logging.getLogger("yiqi.intake")

OUTPUT = 100 * MB
"""Most that a worker may answer, and the largest file that it may write (openpyxl writes temporary ones)."""
MOST_SAID = 24 * MB
"""Of what a worker has read: it becomes objects of ours, several times as large. 20,000 full rows are 16 MB."""
SLOWER = 6
"""How many times as long as its seconds of the processor a worker may take by the clock: a good file must not be refused
because the machine has other things to do, nor one that only waits keep its place for ever."""
PATIENCE = 5
"""Seconds beyond that: the kernel ends a worker in time, this is for a server that does not answer."""

AT_ONCE = 2
"""Workers that run at the same time; the others wait, and their time does not run meanwhile."""

ROOT = Path(__file__).resolve().parents[2]
SAY = {
    "workbook.timeout": "读取这个文件用时过长；请删除附表以外的内容，另存为 {} 后再报送",
    "workbook.memory": "读取这个文件占用内存过多；请删除附表以外的内容，另存为 {} 后再报送",
    "workbook.crash": "无法读取这个文件；请打开后另存为 {} 再报送",
}
ENDS = {
    signal.SIGALRM: "workbook.timeout",
    signal.SIGPROF: "workbook.timeout",
    signal.SIGXCPU: "workbook.timeout",
    signal.SIGKILL: "workbook.timeout",
    signal.SIGABRT: "workbook.memory",  # how Rust ends when it gets no memory
}
FAILED = 255


@dataclass(frozen=True)
class Limits:
    """What one workbook may take: seconds of the processor and bytes of memory."""

    seconds: float = 10
    memory: int = 1024 * MB


USUAL = Limits()
MARKING = Limits(seconds=30)
"""Marking 20,000 rows takes some fifteen seconds; the file has been read within the usual limits before."""


@dataclass(frozen=True)
class _Loaded:
    notice: Notice


# --- our side -------------------------------------------------------------------------------------------


async def read(data: bytes, name: str, compiled: Compiled, limits: Limits = USUAL) -> list[Sheet]:
    """`workbook.read` in a limited process; raises `Unusable`, also for a file that ends the process."""
    head, _ = await _ask({"do": "read", "name": name}, data, compiled, limits)
    return [
        Sheet(
            **{
                **sheet,
                "rows": [RawRow(**row) for row in sheet["rows"]],
                "findings": [Finding(**f) for f in sheet["findings"]],
            }
        )
        for sheet in head["sheets"]
    ]


async def look(data: bytes, name: str, *, only_scan: bool, limits: Limits = USUAL) -> str:
    """`scans.look` in a limited process."""
    head, _ = await _ask({"do": "look", "name": name, "only_scan": only_scan}, data, None, limits)
    return str(head["kind"])


async def mark(
    data: bytes,
    name: str,
    findings: Sequence[Finding],
    compiled: Compiled,
    limits: Limits = MARKING,
    *,
    only_faults: bool = False,
) -> bytes:
    """`marking.mark` in a limited process."""
    request = {"do": "mark", "name": name, "only_faults": only_faults}
    request["findings"] = [f.model_dump() for f in findings]
    _, body = await _ask(request, data, compiled, limits)
    return body


async def _ask(
    request: dict[str, Any], data: bytes, compiled: Compiled | None, limits: Limits
) -> tuple[Any, bytes]:
    request["limits"] = asdict(limits)
    if compiled:
        request["notice"] = compiled.notice.model_dump(mode="json")
    answer = bytearray()
    try:
        async with _slots(), asyncio.timeout(limits.seconds * SLOWER + PATIENCE):
            reader, writer = await asyncio.open_unix_connection(sock=_connect())
            try:
                writer.write(json.dumps(request).encode() + b"\n")
                writer.write(data)
                writer.write_eof()
                while chunk := await reader.read(MB):
                    answer += chunk
                    if len(answer) > OUTPUT:
                        raise _unusable("workbook.crash", request)
            finally:
                writer.transport.abort()  # close() would wait for a worker that reads no more
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except TimeoutError:
        close()
        raise _unusable("workbook.timeout", request) from None
    except OSError:
        pass  # no worker, or it ended before it had read everything; what of is in the answer, if anything
    if not answer or answer[-1]:
        code = ENDS.get(signal.Signals(answer[-1]), "") if answer and answer[-1] != FAILED else ""
        raise _unusable(code or "workbook.crash", request)
    head, _, body = bytes(answer[:-1]).partition(b"\n")
    reply = json.loads(head)
    _tell_once(isolated=reply["isolated"])
    if "code" in reply:
        raise Unusable(reply["code"], reply["detail"])
    return reply, body


def _unusable(code: str, request: dict[str, Any]) -> Unusable:
    return Unusable(code, SAY[code].format(".docx" if is_word(request["name"]) else ".xlsx"))


_told = False


def _tell_once(*, isolated: bool) -> None:
    global _told  # noqa: PLW0603 - a process says so once
    if not isolated and not _told:
        _told = True
        log.warning("files are read in a process that has a network: the kernel grants no namespace")


_waiting: tuple[asyncio.AbstractEventLoop, asyncio.Semaphore] | None = None


def _slots() -> asyncio.Semaphore:
    """That of the running loop: a semaphore serves one loop only, and the command line has many in turn."""
    global _waiting  # noqa: PLW0603 - one loop at a time
    loop = asyncio.get_running_loop()
    if _waiting is None or _waiting[0] is not loop:
        _waiting = loop, asyncio.Semaphore(AT_ONCE)
    return _waiting[1]


_server: tuple[subprocess.Popen[bytes], socket.socket] | None = None


def _connect() -> socket.socket:
    """A fresh connection to a worker of its own."""
    ours, theirs = socket.socketpair()
    with theirs:
        for _ in range(2):
            try:
                socket.send_fds(_control(), [b"w"], [theirs.fileno()])
                return ours
            except OSError:  # the server has ended; the next round starts another
                close()
    ours.close()
    raise ConnectionRefusedError


def _control() -> socket.socket:
    global _server  # noqa: PLW0603 - one server a process, started when first needed
    if _server is None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-P", "-s", "-m", "services.intake.child", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                # Nothing of ours: no passwords to read, and the order of sets the same every time.
                env={"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"},
                cwd="/",
            )
        _server = process, ours
    return _server[1]


@atexit.register
def close() -> None:
    """End the server; it is started again when needed."""
    global _server  # noqa: PLW0603 - see above
    if _server is not None:
        process, control = _server
        _server = None
        control.close()
        process.kill()
        process.wait()


# --- the server's side ------------------------------------------------------------------------------------


def serve(control: socket.socket) -> None:
    """Fork a minder for every connection that arrives; end when our side has closed."""
    # Loaded here once, and never in the service itself: 20 MB, and the libraries that hostile files aim at.
    from services.intake import marking, scans, workbook

    assert marking
    assert scans
    assert workbook
    global _isolated  # noqa: PLW0603 - once, before the first fork
    _isolated = _isolate()
    gc.disable()  # a worker lives for one file: looking for cycles in a long one took a third of its time
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; our side closes in time
    while True:
        _, fds, _, _ = socket.recv_fds(control, 1, 1)
        if not fds:
            return
        if os.fork() == 0:
            control.close()
            _mind(socket.socket(fileno=fds[0]))
        os.close(fds[0])


_isolated = False


def _isolate() -> bool:
    """Into a network of our own that has nothing in it; whoever is not root needs a user namespace for that."""
    user, network = 0x10000000, 0x40000000
    try:
        unshare = ctypes.CDLL(None, use_errno=True).unshare
    except AttributeError:  # another system
        return False
    return bool(unshare(network) == 0 or unshare(user | network) == 0)


def _mind(connection: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    worker = os.fork()
    if worker == 0:
        _work(connection)
    _, status = os.waitpid(worker, 0)
    shutil.rmtree(_temporary(worker), ignore_errors=True)
    end = os.WTERMSIG(status) if os.WIFSIGNALED(status) else FAILED if status else 0
    with contextlib.suppress(OSError):  # nobody waits for it any more
        connection.sendall(bytes([end]))
    os._exit(0)


def _temporary(worker: int) -> Path:
    return Path(tempfile.gettempdir()) / f"yiqi-workbook-{os.getuid()}-{worker}"


def _work(connection: socket.socket) -> None:
    try:
        request = bytearray()
        while chunk := connection.recv(MB):
            request += chunk
        line, _, data = bytes(request).partition(b"\n")
        asked = json.loads(line)
        _limit(Limits(**asked["limits"]))
        connection.sendall(_answer(asked, data))
    except MemoryError:
        os.kill(os.getpid(), signal.SIGABRT)
    except BaseException:  # noqa: BLE001 - Rust panics derive from it; whatever it is, this process ends here
        os._exit(1)
    os._exit(0)


def _limit(limits: Limits) -> None:
    for what, most in (
        (resource.RLIMIT_AS, limits.memory),
        (resource.RLIMIT_CPU, math.ceil(limits.seconds)),
        (resource.RLIMIT_FSIZE, OUTPUT),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 32),
    ):
        resource.setrlimit(what, (most, most))
    signal.setitimer(signal.ITIMER_PROF, limits.seconds)
    signal.setitimer(signal.ITIMER_REAL, limits.seconds * SLOWER)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what Rust says when it ends is no line of our log
    folder = _temporary(os.getpid())
    with contextlib.suppress(OSError):  # read-only disks: reading needs none
        folder.mkdir(mode=0o700)
        tempfile.tempdir = str(folder)


def _answer(asked: dict[str, Any], data: bytes) -> bytes:
    """One line of JSON, then the marked workbook if one was asked for."""
    from services.intake import marking, scans, workbook

    body = b""
    reply: dict[str, Any] = {}
    try:
        if asked["do"] == "look":
            reply["kind"] = scans.look(data, asked["name"], only_scan=asked["only_scan"])
            return _line(reply)
        compiled = _Loaded(Notice.model_validate(asked["notice"]))
        if asked["do"] == "mark":
            findings = [Finding(**f) for f in asked["findings"]]
            only = asked["only_faults"]
            body = marking.mark(data, asked["name"], findings, compiled, only_faults=only)
        else:
            sheets = workbook.read(data, asked["name"], compiled)
            reply["sheets"] = [
                {
                    **vars(s),  # not asdict: it copies every value, which takes longer than reading does
                    "rows": [vars(r) for r in s.rows],
                    "findings": [f.model_dump() for f in s.findings],
                }
                for s in sheets
            ]
    except Unusable as error:
        reply = {"code": error.code, "detail": error.detail}
    line = _line(reply)
    if len(line) > MOST_SAID:
        line = _line({"code": "workbook.long", "detail": "文件中的文字过多，请分成几个文件报送"})
    return line + body


def _line(reply: dict[str, Any]) -> bytes:
    text = json.dumps({**reply, "isolated": _isolated}, ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass") + b"\n"


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
