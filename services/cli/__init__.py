"""The command line `yiqi`: the one module that knows all four services.

Exit status: 0 good, 1 findings or a refusal, 2 unusable input, 3 no server.
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.traceback import install as _pretty

from services.cli import cases, filing, local, notices
from services.cli.common import NO_SERVER, UNUSABLE, Fail, fail, settings
from shared.notices.directory import DirectoryError, UnknownAgency
from shared.notices.load import NoticeBroken
from shared.runtime.database import SERVICES

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="益企：把一份正式通知变成一个数据文件，并在总线上把它办完。",
)
app.add_typer(notices.app, name="notice", help="通知：列出、查看、校验、画流程图、空白表、JSON Schema")
app.add_typer(notices.agencies, name="agency", help="单位名录")
app.add_typer(cases.app, name="case", help="项目：列出、查看")
app.add_typer(cases.mails, name="mail", help="邮件：列出、查看")
app.add_typer(cases.dead, name="dead", help="无法处理的消息：列出、查看、重放、丢弃")
app.add_typer(cases.catalogues, name="catalogue", help="目录：生成、列出、登记以往目录")
app.command("check")(filing.check)
app.command("submit")(filing.submit)
app.command("decide")(filing.decide)
app.command("up")(local.up)


@app.command()
def demo(
    keep: Annotated[Path, typer.Option("--out", help="结果放在哪里")] = Path("var/demo"),
) -> None:
    """在本机把2025年第一季度的征集工作从头到尾办一遍，约一分钟，自己结束。"""
    from services.cli import demo as story

    raise typer.Exit(story.run(keep))


@app.command()
def run(service: Annotated[str, typer.Argument(help="intake、review、notify 或 export")]) -> None:
    """Run one service (what a pod runs)."""
    if service not in SERVICES:
        fail(f"没有服务 {service}；有：{'、'.join(SERVICES)}", UNUSABLE)
    settings()
    # A fresh interpreter: the command line's own libraries would be half of a service's memory.
    os.execv(sys.executable, [sys.executable, "-m", "services.run", service])


@app.command()
def provision(
    check: Annotated[bool, typer.Option("--check", help="只核对，不创建")] = False,
    replicas: Annotated[int, typer.Option(help="JetStream 副本数，生产为3")] = 1,
) -> None:
    """Make schemas, roles, streams, consumers and the bucket; refuse what differs (exit 1)."""
    asyncio.run(local.provision(settings(), check=check, replicas=replicas))


def main() -> NoReturn:
    """The entry point: what a person did wrong is a sentence, never a traceback."""
    _pretty(show_locals=False)
    try:
        # Without standalone mode an Exit comes back as a value.
        status = app(standalone_mode=False)
    except Fail as error:
        print(error, file=sys.stderr)  # noqa: T201 - the last words of a command line
        sys.exit(error.status)
    except (NoticeBroken, DirectoryError, UnknownAgency) as error:
        print(error, file=sys.stderr)  # noqa: T201
        sys.exit(UNUSABLE)
    except (ConnectionError, TimeoutError, OSError) as error:
        print(
            f"没有连上服务：{type(error).__name__}。先运行 yiqi up，或设置 YIQI_NATS_URL 和 YIQI_DATABASE_URL。",
            file=sys.stderr,
        )  # noqa: T201
        sys.exit(NO_SERVER)
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except typer.Abort:
        sys.exit(130)
    except Exception as error:
        import click

        if isinstance(error, click.ClickException):
            error.show()
            sys.exit(UNUSABLE)
        raise
    sys.exit(status if isinstance(status, int) else 0)
