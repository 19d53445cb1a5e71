"""`Local` whose services, migration and provisioning are run from the image, as pods, over TLS.

The image is made in `deploy/image/build.py`; what is mounted where is told in `deploy/kustomize/base`.
"""

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import trustme

from deploy.image import build
from deploy.image.pod import UID, Pod, Process, clear
from services.cli.local import Local
from shared.runtime.accounts import PROVISIONER

PLACES = {
    "YIQI_NATS_SEED": "/etc/yiqi/seed/seed",
    "YIQI_NATS_CA": "/etc/yiqi/ca/ca.crt",
    "YIQI_AGENCIES": "/etc/yiqi/agencies/agencies.yaml",
}
"""Files: what a Secret or a ConfigMap brings, in a folder of its own."""


@dataclass
class Contained(Local):
    """The servers are the machine's; nothing of ours runs from this folder's code."""

    pods: Pod = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        # Turned by replacing the file, which a mounted file does not see and a mounted folder does.
        self.clock = self.directory / "turning" / "clock"
        self.clock.parent.mkdir(exist_ok=True)
        self.clock.write_text("0")
        authority = trustme.CA()
        tls = self.directory / "tls"
        tls.mkdir(exist_ok=True)
        authority.cert_pem.write_to_path(tls / "ca.crt")
        server = tls / "server.pem"
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(server)
        self.nats.config += (
            f"tls {{cert_file: {json.dumps(str(server))}, key_file: {json.dumps(str(server))}, "
            'handshake_first: "auto"}\n'
        )
        self.extra = {**self.extra, "YIQI_NATS_CA": str(tls / "ca.crt")}
        self.pods = Pod(build.BUNDLE, self.directory / "pods")

    async def _provision(self) -> None:
        """As the two Jobs do, each with the secrets of its half; the passwords of the roles are the operator's, as they are
        in a cluster."""
        bus = {k: v for k, v in self.environment.items() if "NATS" in k} | {
            "YIQI_NATS_SEED": str(self.seed(PROVISIONER))
        }
        for job, half, told in (
            ("migrate", "database", {"YIQI_DATABASE_URL": self.postgres.dsn("yiqi")}),
            ("provision", "bus", bus),
        ):
            done = await asyncio.to_thread(self.once, job, told, "yiqi", "provision", "--only", half)
            if done.returncode:
                raise RuntimeError(done.stdout + done.stderr)
        for service, password in self._passwords.items():
            self.postgres.sql(f"alter role yiqi_{service} password '{password}'", "yiqi")

    def once(
        self, name: str, environment: Mapping[str, str], *command: str
    ) -> "subprocess.CompletedProcess[str]":
        """A Job, or `kubectl exec`."""
        variables, mounts = self._mounted(name, environment)
        return self.pods.run(*command, mounts=mounts, **variables)

    def spawn(self, name: str, environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
        variables, mounts = self._mounted(name, environment)
        command = ("python", "-m", "services.run", name.split("-")[0])
        return self.pods.start(command, variables, mounts, self._logs[name])

    def status(self, name: str) -> dict[str, str]:
        """Of the service's own process, as the machine sees it."""
        process = self.running[name]
        assert isinstance(process, Process)
        status = Path(f"/proc/{process.inner}/status").read_text()
        return dict(line.split(":", 1) for line in status.splitlines() if ":" in line)

    def stop(self) -> None:
        super().stop()
        clear(self.pods.directory)

    def _mounted(self, name: str, environment: Mapping[str, str]) -> tuple[dict[str, str], dict[Path, str]]:
        """The variables as a pod has them, and the folders that bring what they point to: nobody's but its group's, and
        read-only but for the catalogues."""
        told = {
            key: value
            for key, value in environment.items()
            if key.startswith("YIQI_") and key != "YIQI_NATS_SEEDS"
        }
        mounts = {}
        for key, place in PLACES.items():
            if key not in told:
                continue
            folder = self.directory / "volumes" / name / Path(place).parent.name
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            copy = Path(shutil.copy(told[key], folder / Path(place).name))
            os.chown(copy, 0, UID)
            copy.chmod(0o440)
            mounts[folder], told[key] = str(Path(place).parent), place
        mounts[self.clock.parent], told["YIQI_CLOCK"] = "/etc/yiqi/clock", "/etc/yiqi/clock/clock"
        if catalogues := told.get("YIQI_CATALOGUES"):
            folder = Path(catalogues)
            folder.mkdir(parents=True, exist_ok=True)
            os.chown(folder, UID, UID)
            mounts[folder], told["YIQI_CATALOGUES"] = "/var/lib/yiqi/catalogues", "/var/lib/yiqi/catalogues"
        return told, mounts
