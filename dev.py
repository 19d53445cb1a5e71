#!/usr/bin/env python3
"""Everything a developer or CI runs, from a bare Python with pip: environment, demo, tests, checks, locks.

The product's own commands are not here; they are `yiqi …` (services/cli.py).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent
TOOLS = ROOT / ".tools"
VENV = ROOT / ".venv"
UV = TOOLS / "bin" / "uv"
BIN = VENV / "bin"

RUNTIME_LOCK, DEV_LOCK, UV_LOCK = "requirements.lock", "requirements-dev.lock", "requirements-uv.lock"
DEPLOY_LOCK = "requirements-deploy.lock"
NPM_LOCKS = ("tests/publishers/package.json", "tests/publishers/package-lock.json")
LOCKS = (RUNTIME_LOCK, DEV_LOCK, UV_LOCK, DEPLOY_LOCK)

PUBLISHERS = ROOT / "tests" / "publishers"
"""With a group of npm packages: what the examples in JavaScript need, and other people's judges of our contracts."""

DEPLOY = TOOLS / "deploy"
"""kubectl and the schemas that manifests are held against: 230 MB that no other command needs."""

SIDE_BY_SIDE = ("-n", str((os.cpu_count() or 1) + 1), "--dist", "worksteal")
"""Of pytest-xdist: the slow tests mostly wait for a condition, so one more than there are cores. `-n 0` has them in one
process, for a debugger."""


def setup(args: list[str]) -> int:
    """make .venv exactly as the lock files say (instant when it already is)"""
    _environment()
    _node_modules()
    print(f"ready: {VENV.name}/bin/yiqi")
    return 0


def demo(args: list[str]) -> int:
    """run the whole system here on example notices (yiqi demo)"""
    _environment()
    return _become(BIN / "yiqi", "demo", *args)


def test(args: list[str]) -> int:
    """run the tests; arguments go to pytest"""
    _environment()
    _node_modules()
    return _become(BIN / "python", "-m", "pytest", *SIDE_BY_SIDE, "--ignore=tests/deploy", *args)


def check(args: list[str]) -> int:
    """lint, formatting, types, lock files"""
    _environment()
    statuses = [
        _run(BIN / "ruff", "check"),
        _run(BIN / "ruff", "format", "--check"),
        _run(BIN / "mypy", "--strict", "shared", "services", "tests", "deploy", "dev.py"),
        _locks_are_clean(),
    ]
    return max(statuses)


def check_deploy(args: list[str]) -> int:
    """render and check what is in deploy/, with tools of its own; arguments go to pytest"""
    _environment()
    _deploy_tools()
    return _become(BIN / "python", "-m", "pytest", *SIDE_BY_SIDE, "tests/deploy", *args)


def chaos(args: list[str]) -> int:
    """the chaos tests in full, a quarter of an hour, and the README's table of outages; SHORT=1 as in `test`"""
    _environment()
    short = bool(os.environ.get("SHORT"))
    env = {**os.environ, "YIQI_CHAOS": "short" if short else "full"}
    status = _run(BIN / "python", "-m", "pytest", *SIDE_BY_SIDE, "tests/chaos", *args, env=env)
    if status or short or args:
        return status
    return _run(BIN / "python", "-m", "tests.chaos.table")


def soak(args: list[str]) -> int:
    """two hours of load and random faults; `--minutes N` for another time"""
    _environment()
    return _become(BIN / "python", "-m", "tests.chaos.soak", *args)


def bench(args: list[str]) -> int:
    """measure (tests/bench); arguments go to it"""
    _environment()
    return _become(BIN / "python", "-m", "tests.bench", *args)


def image(args: list[str]) -> int:
    """build the image without a container engine and play the demo from it, as pods; `--wheels`: for docker build"""
    _environment()
    status = _run(BIN / "python", "-m", "deploy.image.build", *args)
    return status if status or args else _run(BIN / "python", "-m", "tests.deploy.round")


def bundle(args: list[str]) -> int:
    """the image, manifests, wheels and bill of materials for a place without internet: dist/yiqi-<version>-<arch>"""
    _environment()
    return _become(BIN / "python", "-m", "deploy.airgap.bundle", *args)


def lock(args: list[str]) -> int:
    """write the lock files again; `lock --upgrade` takes newer versions"""
    with _locked():
        _install_uv()
    # One machine's uv settings must not shape what everyone installs; only the address of a mirror may stay.
    env = {k: v for k, v in os.environ.items() if not k.startswith("UV_") or k == "UV_DEFAULT_INDEX"}
    env.setdefault("UV_SYSTEM_CERTS", "1")
    # Not `uv lock`: its file names the host of every artefact, and installing from it ignores a mirror.
    flags = ("--no-config", "--quiet", "--universal", "--python-version=3.11", "--generate-hashes")
    compile_: list[str | Path] = [UV, "pip", "compile", *flags, "--no-header", "--no-annotate", *args]
    everything = (
        "--extra=embedded",
        "--extra=pictures",
        "--extra=traces",
        "--group=dev",
        f"--constraints={RUNTIME_LOCK}",
    )
    return (
        # With traces: whoever runs the image turns them on by a variable.
        _run(*compile_, "pyproject.toml", "--extra=traces", "-o", RUNTIME_LOCK, env=env)
        or _run(*compile_, "pyproject.toml", *everything, "-o", DEV_LOCK, env=env)
        or _run(*compile_, "--group=pyproject.toml:deploy", "-o", DEPLOY_LOCK, env=env)
        or _run(*compile_, "-", "-o", UV_LOCK, env=env, stdin="uv\n")
        or _locks_are_clean()
    )


COMMANDS = (setup, demo, test, check, check_deploy, chaos, soak, bench, image, bundle, lock)


def _environment() -> None:
    stamp = VENV / ".stamp"
    if _stamped(stamp, wanted := _fingerprint(*LOCKS, "pyproject.toml")):
        return
    with _locked():
        if _stamped(stamp, wanted):  # another invocation did it while this one waited
            return
        _install_uv()
        env = {**os.environ, "VIRTUAL_ENV": str(VENV)}
        env.setdefault(
            "UV_SYSTEM_CERTS", "1"
        )  # so that behind a TLS-inspecting proxy the machine's own CA counts
        print("setup: .venv", file=sys.stderr)
        # Kept across lock changes, so that a command already running from it survives; not across Pythons.
        version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        reuse = "--allow-existing" if (VENV / "lib" / version).is_dir() else "--clear"
        for arguments in (
            ("venv", "--quiet", "--no-project", reuse, "--python", sys.executable, VENV),
            ("pip", "sync", "--compile-bytecode", "--quiet", "--require-hashes", DEV_LOCK),
            ("pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--editable", "."),
        ):
            if status := _run(UV, *arguments, env=env):
                sys.exit(status)
        stamp.write_text(wanted)


def _node_modules() -> None:
    """Never a reason to stop: without npm, or without a registry, the tests that need it say so and are skipped."""
    if shutil.which("npm") is None:
        return
    stamp, wanted = PUBLISHERS / "node_modules" / ".stamp", _fingerprint(*NPM_LOCKS)
    if stamp.exists() and stamp.read_text() == wanted:
        return
    with _locked():
        print(f"setup: {stamp.parent.relative_to(ROOT)}", file=sys.stderr)
        npm = ("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
        if _run(*npm, "--prefix", PUBLISHERS):
            print("setup: npm did not install them; the tests with node will be skipped", file=sys.stderr)
        else:
            stamp.write_text(wanted)


def _deploy_tools() -> None:
    stamp, wanted = DEPLOY / ".stamp", _fingerprint(DEPLOY_LOCK)
    if (DEPLOY / "bin" / "python").exists() and _stamped(stamp, wanted):
        return
    with _locked():
        print("setup: .tools/deploy", file=sys.stderr)
        env = {**os.environ, "VIRTUAL_ENV": str(DEPLOY)}
        env.setdefault("UV_SYSTEM_CERTS", "1")
        for arguments in (
            ("venv", "--quiet", "--no-project", "--clear", "--python", sys.executable, DEPLOY),
            ("pip", "sync", "--quiet", "--require-hashes", DEPLOY_LOCK),
        ):
            if status := _run(UV, *arguments, env=env):
                sys.exit(status)
        stamp.write_text(wanted)


def _install_uv() -> None:
    stamp = TOOLS / ".stamp"
    if _stamped(stamp, wanted := _fingerprint(UV_LOCK)):
        return
    print("setup: uv", file=sys.stderr)
    # --target: Debian's own Python refuses other installs as externally managed, and may lack venv.
    pip = (
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "install",
        "--quiet",
        "--root-user-action=ignore",
    )
    if status := _run(*pip, "--upgrade", "--target", TOOLS, "--require-hashes", "-r", UV_LOCK):
        print("setup: this needs pip for the same Python (Debian: apt install python3-pip)", file=sys.stderr)
        sys.exit(status)
    stamp.write_text(wanted)


def _fingerprint(*names: str) -> str:
    digest = hashlib.sha256(f"{sys.version_info[:2]} {ROOT}".encode())
    for name in names:
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def _stamped(stamp: Path, wanted: str) -> bool:
    # The interpreter may have been removed under a .venv by an upgrade of the system.
    usable = stamp.parent == TOOLS or (BIN / "python").exists()
    return usable and stamp.exists() and stamp.read_text() == wanted


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    TOOLS.mkdir(exist_ok=True)
    with (TOOLS / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _locks_are_clean() -> int:
    """No address in a lock file: it must install the same from PyPI, a mirror or a folder of wheels."""
    found = [
        f"{name}:{number}: {line.strip()}"
        for name in LOCKS
        for number, line in enumerate((ROOT / name).read_text().splitlines(), 1)
        if "://" in line
    ]
    print("\n".join(found) if found else "lock files: no addresses")
    return 1 if found else 0


def _run(*command: str | Path, env: dict[str, str] | None = None, stdin: str | None = None) -> int:
    status = subprocess.run([str(part) for part in command], env=env, input=stdin, text=True).returncode
    return status if status >= 0 else 128 - status  # ended by a signal: as a shell reports it


def _become(*command: str | Path) -> int:
    """Replace this process, so that signals and the exit status are the command's own."""
    sys.stdout.flush()
    os.execv(command[0], [str(part) for part in command])


def main() -> int:
    if sys.version_info < (3, 11):  # noqa: UP036 - this file is what an older python3 gets to see
        print(f"Yiqi needs Python 3.11 or newer; this is {sys.version.split()[0]}. Try: python3.11 dev.py …")
        return 1
    name, *args = sys.argv[1:] or ["help"]
    commands = {function.__name__.replace("_", "-"): function for function in COMMANDS}
    if name not in commands:
        print("usage: python3 dev.py COMMAND [ARGUMENT…]\n")
        print("\n".join(f"  {name:12} {function.__doc__}" for name, function in commands.items()))
        return 0 if name in {"help", "-h", "--help"} else 2
    os.chdir(ROOT)
    return commands[name](args)


if __name__ == "__main__":
    sys.exit(main())
