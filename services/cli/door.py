"""`yiqi door`, which runs the HTTP door, and by what the door knows an agency: `yiqi publisher token`, `certificate`.

The door itself is `services/intake/door`.
"""

import os
import re
import secrets
import ssl
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from services.cli import common
from services.cli.common import UNUSABLE, fail, seed_of, settings
from services.intake.door.identity import CERTIFICATE, TOKEN, line

Code = Annotated[str, typer.Argument(help="单位代码，见 yiqi agency list")]


def door() -> NoReturn:
    """运行 HTTP 接口，供不能使用 NATS 的系统：发布事件、查询答复、传送文件；说明在 /openapi.json。"""
    if settings().door_publishers is None:
        fail(
            "还没有认识的单位：先 yiqi publisher token 单位代码 >> publishers.txt，"
            "再设 YIQI_DOOR_PUBLISHERS=publishers.txt",
            UNUSABLE,
        )
    if settings().nats_seed is None and (seed := seed_of("door")):
        os.environ["YIQI_NATS_SEED"] = str(seed)
    # A fresh interpreter: the command line's own libraries would be half of its memory.
    os.execv(sys.executable, [sys.executable, "-m", "services.intake.door"])


def token(code: Code) -> None:
    """为一个单位生成 HTTP 接口的令牌：标准输出是 YIQI_DOOR_PUBLISHERS 文件中的一行（只有摘要），令牌只在标准错误显示这一次。"""
    who = _listed(code)
    made = secrets.token_urlsafe(32)
    sys.stdout.write(line(who, TOKEN, made.encode()) + "\n")
    sys.stderr.write(f"{who} 的令牌（只显示这一次，当面或加密交给该单位）：{made}\n")


def certificate(
    code: Code, file: Annotated[Path, typer.Argument(help="该单位的客户端证书，PEM；不要私钥")]
) -> None:
    """一个单位的客户端证书在 YIQI_DOOR_PUBLISHERS 文件中的一行。"""
    who = _listed(code)
    text = file.read_text(encoding="ascii", errors="replace")
    found = re.search("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", text, re.DOTALL)
    try:
        der = ssl.PEM_cert_to_DER_cert(found[0]) if found else b""
    except ValueError:
        der = b""
    if not der:
        fail(f"{file.name} 中没有 PEM 格式的证书", UNUSABLE)
    sys.stdout.write(line(who, CERTIFICATE, der) + "\n")


def _listed(code: str) -> str:
    if code not in common.directory().by_code:
        fail(f"{code} 不在单位名录中；没有账户的申报单位由窗口代为报送", UNUSABLE)
    return code
