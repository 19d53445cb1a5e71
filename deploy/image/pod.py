"""A process of the image as a pod of the manifests runs it, with runc and without a cluster.

Only the network is the machine's own, so that servers on loopback are reached; the image is made in `build.py`.
"""

import errno
import itertools
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

UID = 10001
SECCOMP = Path("/usr/share/containers/seccomp.json")
"""Podman's, as Debian has it. RuntimeDefault of containerd is stricter, by the next two."""
REFUSED = (
    *(
        "bpf",
        "fanotify_init",
        "fsconfig",
        "fsmount",
        "fsopen",
        "fspick",
        "mount",
        "mount_setattr",
        "move_mount",
    ),
    *(
        "name_to_handle_at",
        "open_tree",
        "perf_event_open",
        "quotactl",
        "setdomainname",
        "sethostname",
        "setns",
    ),
    *("umount", "umount2", "unshare", "io_uring_enter", "io_uring_register", "io_uring_setup"),
)
NAMESPACES = 0x7E020000
"""Of clone: any flag that makes a namespace."""
ARCHITECTURES = {"x86_64": ("SCMP_ARCH_X86_64", "amd64"), "aarch64": ("SCMP_ARCH_AARCH64", "arm64")}
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Pod:
    """`bundle` is what umoci unpacked; below `directory` each process has a folder of its own."""

    bundle: Path
    directory: Path
    user: int = UID
    read_only: bool = True
    restricted: bool = True  # False gives what "restricted" takes away: the control of the tests
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(
        self, *command: str, mounts: Mapping[Path, str] | None = None, **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        """To its end."""
        return subprocess.run(
            self._prepared(command, environment, mounts or {}),
            capture_output=True,
            text=True,
            timeout=120,
        )

    def start(
        self, command: Sequence[str], environment: Mapping[str, str], mounts: Mapping[Path, str], log: Any
    ) -> "Process":
        """`mounts` from the machine into the pod; what its user may write to there is the caller's matter."""
        prepared = self._prepared(command, environment, mounts)
        # runc hands the signal on, so that nothing stays behind when whoever started it is killed.
        process = Process(["setpriv", "--pdeathsig", "TERM", *prepared], stdout=log, stderr=log)
        process.pid_file = Path(prepared[prepared.index("--pid-file") + 1])
        return process

    def _prepared(
        self, command: Sequence[str], environment: Mapping[str, str], mounts: Mapping[Path, str]
    ) -> list[str]:
        id_ = f"yiqi-{os.getpid()}-{next(_numbers)}"
        folder = self.directory / id_
        folder.mkdir(parents=True)
        told = self._configuration(command, {**self.environment, **environment}, mounts)
        (folder / "config.json").write_text(json.dumps(told))
        state = ("--root", str(self.directory / "runc"))
        return ["runc", *state, "run", "--bundle", str(folder), "--pid-file", str(folder / "pid"), id_]

    def _configuration(
        self, command: Sequence[str], environment: Mapping[str, str], mounts: Mapping[Path, str]
    ) -> dict[str, Any]:
        """The image's own, with the security context of the manifests and what they mount."""
        told: dict[str, Any] = json.loads((self.bundle / "config.json").read_text())
        told["root"] = {"path": str(self.bundle / "rootfs"), "readonly": self.read_only}
        kinds = ("bounding", "effective", "inheritable", "permitted", "ambient")
        process = told["process"]
        process["terminal"] = False
        process["user"] = {"uid": self.user, "gid": self.user}
        process["env"] += [f"{name}={value}" for name, value in environment.items()]
        process["args"] = list(command)
        process["noNewPrivileges"] = self.restricted
        if self.restricted:
            process["capabilities"] = {kind: [] for kind in kinds}
            told["linux"]["seccomp"] = seccomp()
        told["linux"]["namespaces"] = [n for n in told["linux"]["namespaces"] if n["type"] != "network"]
        told["mounts"].append(
            {
                "destination": "/tmp",  # noqa: S108 - an emptyDir
                "type": "tmpfs",
                "source": "tmpfs",
                "options": ["nosuid", "nodev", "mode=1777", "size=256m"],
            }
        )
        for source, destination in mounts.items():
            writable = os.access(source, os.W_OK) and source.stat().st_uid == self.user
            told["mounts"].append(
                {
                    "destination": destination,
                    "type": "bind",
                    "source": str(source),
                    "options": ["rbind", "nosuid", "nodev", "rw" if writable else "ro"],
                }
            )
        return told


class Process(subprocess.Popen[bytes]):
    """runc in the foreground: it hands signals on, but cannot hand on that it is killed."""

    pid_file: Path

    @property
    def inner(self) -> int:
        """The first process of the container, as the machine counts."""
        return int(self.pid_file.read_text())

    def kill(self) -> None:
        with suppress(OSError, ValueError):  # not started yet
            os.kill(self.inner, signal.SIGKILL)
            return
        super().kill()


def seccomp() -> dict[str, Any]:
    """The profile as it is for a process without capabilities, in the words of the OCI runtime."""
    profile = json.loads(SECCOMP.read_text())
    long, short = ARCHITECTURES[os.uname().machine]
    (ours,) = (one for one in profile["archMap"] if one["architecture"] == long)
    kept = []
    for rule in profile["syscalls"]:
        includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
        if includes.get("caps") or short not in includes.get("arches", [short]):
            continue
        if short in excludes.get("arches", ()):
            continue
        names = [name for name in rule["names"] if name not in (*REFUSED, "clone", "clone3")]
        said = {key: rule[key] for key in ("action", "args", "errnoRet") if rule.get(key) is not None}
        if names:
            kept.append({"names": names, **said})
    no_namespace = {"index": 0, "value": NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
    kept.append({"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [no_namespace]})
    kept.append({"names": [*REFUSED], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EPERM})
    return {
        "defaultAction": profile["defaultAction"],
        "defaultErrnoRet": profile["defaultErrnoRet"],  # also clone3's: glibc then falls back to clone
        "architectures": [long, *ours["subArchitectures"]],
        "syscalls": kept,
    }


def clear(directory: Path) -> None:
    """Whatever processes of `directory` are left."""
    state = directory / "runc"
    for container in state.iterdir() if state.exists() else ():
        subprocess.run(
            ["runc", "--root", str(state), "delete", "--force", container.name], capture_output=True
        )
    shutil.rmtree(state, ignore_errors=True)
