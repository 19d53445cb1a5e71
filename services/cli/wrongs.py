"""What went wrong, as one Chinese sentence and an exit status: typing errors, files, servers.

Nothing is caught here; the entry point asks.
"""

import errno
import sys
from typing import Any, Literal, get_args, get_origin

from services.cli.common import NO_SERVER, UNUSABLE

HINT = "先运行 yiqi up，或设置 YIQI_NATS_URL 和 YIQI_DATABASE_URL。"

FILES = {
    errno.ENOENT: "没有这个文件或文件夹",
    errno.EACCES: "没有权限读写",
    errno.EPERM: "没有权限读写",
    errno.EROFS: "没有权限读写",
    errno.ENOTDIR: "路径中有一段不是文件夹",
    errno.EISDIR: "这是文件夹，不是文件",
    errno.EEXIST: "已经存在，而且不是文件夹",
    errno.ENAMETOOLONG: "名称太长",
    errno.ENOSPC: "磁盘已满",
}
SERVERS = ("nats", "asyncpg", "sqlalchemy")
DATES = {"%Y-%m-%d": "2025-03-07"}


def worded(error: Exception) -> tuple[str, int] | None:
    """Sentence and status, if this is nothing but a file or a server; otherwise it is a bug of ours."""
    if isinstance(error, OSError) and error.filename is not None:
        why = FILES.get(error.errno or 0, "无法读写")
        return f"{error.filename}：{why}", UNUSABLE
    if isinstance(error, OSError | TimeoutError):
        return f"没有连上服务：{type(error).__name__}。{HINT}", NO_SERVER
    for kind in type(error).__mro__:
        if kind.__module__.split(".")[0] in SERVERS:
            return _server(error), NO_SERVER
    return None


def _server(error: Exception) -> str:
    module = sys.modules.get("nats.errors")
    if module and isinstance(
        error, (module.NoServersError, module.TimeoutError, module.ConnectionClosedError)
    ):
        return f"没有连上服务：{type(error).__name__}。{HINT}"
    if "authorization violation" in str(error).lower():
        return "总线不认识这个身份：请核对种子文件（YIQI_NATS_SEED、YIQI_NATS_SEEDS），或 nats-server 是否已加载账户配置。"
    return f"服务没有正常应答：{type(error).__name__}。请运维核对（yiqi provision --check）；{HINT}"


def typed(error: Any) -> str:
    """What the parser of the command line found, by the kinds that people meet; typer has no Chinese. Of its own
    errors nothing is public, so whatever is not there is left out."""
    name, param = type(error).__name__, getattr(error, "param", None)
    kind = getattr(param, "type_descriptor", None)
    option = _option(param) or str(getattr(error, "param_hint", None) or "")
    message = str(getattr(error, "format_message", error.__str__)())
    match name:
        case "MissingParameter":
            return f"缺少 {option}；用 --help 查看写法"
        case "NoSuchOption":
            near = getattr(error, "possibilities", None)
            told = f"是不是 {'、'.join(near)}" if near else "用 --help 查看有哪些选项"
            return f"没有选项 {getattr(error, 'option_name', '')}；{told}"
        case "BadOptionUsage":
            return f"选项 {getattr(error, 'option_name', '')} 后面要写上内容"
        case "BadParameter":
            return f"{option} {_wanted(kind)}" if _wanted(kind) else f"{option} 填写有误：{message}"
    if message.startswith("No such command"):
        return f"没有命令 {message.split(chr(39))[1]}；用 --help 查看有哪些命令"
    if message.startswith("Got unexpected extra argument"):
        return f"多出了内容：{message.rpartition('(')[2].removesuffix(')')}；含空格的内容请加引号"
    return message


def _wanted(kind: Any) -> str:
    """What an option takes: a choice, a date, a number."""
    annotation = getattr(kind, "annotation", None)
    if choices := get_args(annotation) if get_origin(annotation) is Literal else None:
        return f"应为以下之一：{'、'.join(map(str, choices))}"
    if formats := getattr(getattr(kind, "parameter_info", None), "formats", None):
        return f"应为日期，写作 {'或'.join(DATES.get(f, f) for f in formats)}"
    return "应为整数" if annotation is int else ""


def _option(param: Any) -> str:
    """`--kind`, or the name of an argument."""
    names = [str(o) for o in getattr(param, "opts", ())]
    return next((o for o in names if o.startswith("--")), names[0] if names else "")
