"""`yiqi nats config`: keys for everyone on the bus, and the accounts of nats-server that they belong to.

What an account may do is in `shared/runtime/accounts.py`; here keys are made, kept and written.
"""

import base64
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import nkeys
import typer

from services.cli.common import UNUSABLE, console, directory, fail
from shared.runtime.accounts import USERS, text

app = typer.Typer(no_args_is_help=True, add_completion=False)

ACCOUNTS, PUBLIC, SEEDS = "accounts.conf", "public.txt", "seeds"
_LINE = re.compile(r"(?P<who>[a-z0-9][a-z0-9_-]*)\s+(?P<key>\S+)")


@dataclass(frozen=True)
class Kept:
    """What a folder holds after `keep`; `made` and `changed` say what is new."""

    keys: Mapping[str, str]
    made: tuple[str, ...]
    changed: tuple[str, ...]


def keep(out: Path, agencies: Iterable[str], brought: Mapping[str, str] | None = None) -> Kept:
    """Write `accounts.conf`, `public.txt` and the seeds that are missing. Who has a public key keeps it: a seed
    that was handed over and is no longer here is not made again."""
    codes = list(agencies)
    seeds = out / SEEDS
    seeds.mkdir(parents=True, exist_ok=True)
    seeds.chmod(0o700)
    known = read(out / PUBLIC) if (out / PUBLIC).exists() else {}
    changed = tuple(who for who, key in (brought or {}).items() if known.get(who, key) != key)
    known |= brought or {}
    made = []
    for who in (*USERS, *codes):
        if who in known:
            continue
        seed = seeds / f"{who}.nk"
        if not seed.exists():
            _write(seed, nkeys.encode_seed(secrets.token_bytes(32), nkeys.PREFIX_BYTE_USER).decode() + "\n")
            made.append(who)
        known[who] = nkeys.from_seed(bytearray(seed.read_bytes().strip())).public_key.decode()
    _write(out / ACCOUNTS, text(codes, known), 0o644)
    _write(out / PUBLIC, "".join(f"{who} {key}\n" for who, key in known.items()), 0o644)
    return Kept(known, tuple(made), changed)


def read(file: Path) -> dict[str, str]:
    """Lines of `<code> <public nkey>`; what begins with # is for people."""
    found: dict[str, str] = {}
    for n, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None or not usable(match["key"]):
            fail(f"{file.name} 第{n}行：应为“代码 公钥”，公钥为 U 开头的56个字符", UNUSABLE)
        if match["who"] in found:
            fail(f"{file.name} 第{n}行：{match['who']} 重复", UNUSABLE)
        found[match["who"]] = match["key"]
    return found


def usable(key: str) -> bool:
    """A public key of a user, unharmed by typing; a seed, which must stay where it is, is none."""
    if not re.fullmatch("U[A-Z2-7]{55}", key):
        return False
    raw = base64.b32decode(key)
    return bool(nkeys.crc16(raw[:-2]) == int.from_bytes(raw[-2:], "little"))


def _write(path: Path, content: str, mode: int = 0o600) -> None:
    """Whole or not at all, and never readable by others in between."""
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    part.touch(mode=mode)
    part.write_text(content, encoding="utf-8")
    part.replace(path)


@app.command()
def config(
    out: Annotated[Path, typer.Option("--out", help="写到哪个文件夹；再次运行时保留已有的密钥")],
    public: Annotated[
        Path | None, typer.Option("--public", help="单位自备的公钥：每行“代码 公钥”，私钥不离开该单位")
    ] = None,
) -> None:
    """生成 nats-server 的账户配置（只含公钥）；没有公钥的，生成密钥对。"""
    listed = directory()
    brought = read(public) if public else {}
    if strange := [who for who in brought if who not in listed.by_code and who not in USERS]:
        fail(f"{'、'.join(strange)} 不在单位名录中", UNUSABLE)
    kept = keep(out, listed.by_code, brought)
    console.print(f"账户配置 {out / ACCOUNTS}：{len(listed.by_code)}个单位，{len(USERS)}个内部用户")
    for who in kept.changed:
        console.print(f"[yellow]已换公钥 {who}[/yellow]：旧密钥在 nats-server 重新加载后失效")
    if kept.made:
        console.print(f"新密钥 {len(kept.made)}个（{out / SEEDS}，只有本用户可读）：{'、'.join(kept.made)}")
    console.print(
        "接下来：\n"
        f'1. 在 nats.conf 中写 include "{ACCOUNTS}"，运行 nats-server -t 核对，再 nats-server --signal reload；\n'
        f"2. {SEEDS} 中各单位的种子文件当面或加密交给该单位，一次即可，随后从这里删除；遗失时删去 {PUBLIC} 中"
        "该单位一行，重新运行；\n"
        f"3. {'、'.join(USERS[:4])} 的种子交给各服务（YIQI_NATS_SEED），provisioner 的交给 yiqi provision，"
        "desk 和 operator 的交给窗口和运维（YIQI_NATS_SEEDS），door 的交给 HTTP 接口（yiqi door）；\n"
        f"4. {ACCOUNTS} 和 {PUBLIC} 不含秘密，可入库；{SEEDS} 不可。",
        markup=False,
        soft_wrap=True,
    )
