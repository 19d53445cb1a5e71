"""Running a script of this folder with node, or saying why not.

The packages are installed by `python3 dev.py setup` (or `test`), never from here.
"""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
INSTALLED = HERE / "node_modules" / ".stamp"
OLDEST = 20


def missing() -> str:
    """Why node cannot run here; empty when it can."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return f"needs node {OLDEST} or newer with npm on the PATH (Debian: apt install nodejs npm)"
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, timeout=30).stdout.strip()
    if int(version.removeprefix("v").split(".")[0]) < OLDEST:
        return f"needs node {OLDEST} or newer; this is {version}"
    if not INSTALLED.exists():
        return "needs tests/publishers/node_modules: python3 dev.py setup installs it, or says why it cannot"
    return ""


def node(
    script: str | Path, *args: str | Path, timeout: float = 60, **more: Any
) -> subprocess.CompletedProcess[str]:
    """Run a script, by its name here or by its path; skips the test where there is no node. `more` is for
    `subprocess.run`; `env` adds to this process's environment."""
    if why := missing():
        pytest.skip(why)
    env = {**os.environ, **more.pop("env", {})}
    command = ["node", str(HERE / script), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=env, **more)
