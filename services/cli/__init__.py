"""The command line `yiqi`: the one module that knows all four services.

Exit status: 0 good, 1 findings or a refusal, 2 unusable input, 3 no server.
"""

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer
from pydantic import ValidationError
from typer.exceptions import TyperException

from services.cli import (
    auditing,
    backup,
    cases,
    collecting,
    contacts,
    contracts,
    deciding,
    doctor,
    door,
    dossier,
    filing,
    letters,
    mails,
    nats,
    notices,
    ops,
    printing,
    publisher,
    report,
)
from services.cli.common import UNUSABLE, Fail, fail, seed_of, settings
from services.cli.wrongs import typed, worded
from shared.contracts.problem import faults
from shared.notices.directory import DirectoryError, UnknownAgency
from shared.notices.load import NoticeBroken
from shared.runtime import SERVICES

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="益企：把一份正式通知变成一个数据文件，并在总线上把它办完。",
)
app.add_typer(notices.app, name="notice", help="通知：列出、查看、校验、画流程图、空白表、JSON Schema")
app.add_typer(notices.agencies, name="agency", help="单位名录")
app.add_typer(contacts.app, name="contact", help="联系人：列出、查看、登记、结束")
app.add_typer(cases.app, name="case", help="项目：列出、查看、期限、核对经过、印成附件的样子、封存案卷")
app.add_typer(
    mails.app,
    name="mail",
    help="邮件：列出、查看；留存的：放行、作废、补充说明；送达不明的：查明；不再发信的地址",
)
app.add_typer(letters.app, name="letter", help="信函：列出、预览、检查模板")
app.add_typer(cases.dead, name="dead", help="无法处理的消息：列出、查看、重放、丢弃")
app.add_typer(
    cases.catalogues,
    name="catalogue",
    help="目录：生成、列出、历次版本、汇集一轮、公示和名单、汇总表、登记以往目录",
)
app.add_typer(auditing.app, name="audit", help="审计：核对经过与审计流、审计锚")
app.add_typer(ops.app, name="ops", help="运维：体检、备份、恢复、清除不再需要的个人信息")
cases.app.command("verify")(auditing.verify)
cases.app.command("dossier")(dossier.dossier)
cases.app.command("document")(printing.document)
cases.catalogues.command("versions")(collecting.versions)
cases.catalogues.command("collect")(collecting.collect)
cases.catalogues.command("document")(collecting.document)
cases.catalogues.command("summary")(printing.summary)
ops.app.command("backup")(backup.backup)
ops.app.command("restore")(backup.restore)
ops.app.command("doctor")(doctor.doctor)
app.command("check")(filing.check)
app.command("submit")(filing.submit)
app.command("decide")(deciding.decide)
app.command("score")(deciding.score)
app.command("fact")(deciding.fact)
app.command("report")(report.report)
app.add_typer(contracts.app, name="contracts", help="契约：公布、核对兼容性、用来核对自己的事件")
app.command("door")(door.door)
publisher.app.command("token")(door.token)
publisher.app.command("certificate")(door.certificate)
app.add_typer(nats.app, name="nats", help="总线：单位的账户和密钥")
app.add_typer(
    publisher.app, name="publisher", help="外部系统：HTTP 接口所认的令牌和证书；扮演一个，发布示例事件"
)
app.add_typer(deciding.held, name="held", help="留存待核的决定：列出、查看、生效、作废")


@app.command()
def up(
    directory: Annotated[Path, typer.Option("--dir", help="数据放在哪里")] = Path("var/up"),
) -> None:
    """在本机运行全部服务，直到 Ctrl-C。另开终端即可使用其他命令。"""
    from services.cli.local import up as run_here  # the servers from wheels are needed here only

    run_here(directory)


@app.command()
def demo(
    keep: Annotated[Path, typer.Option("--out", help="结果放在哪里")] = Path("var/demo"),
    keep_data: Annotated[bool, typer.Option("--keep-data", help="保留服务器的数据")] = False,
) -> None:
    """在本机把一季征集、一个集群和一个服务站的几年从头到尾办一遍，约一分钟，自己结束。"""
    from services.cli.demo import run as play  # only the demo needs its hundred rows

    raise typer.Exit(play(keep, keep_data=keep_data))


@app.command()
def run(service: Annotated[str, typer.Argument(help="intake、review、notify 或 export")]) -> None:
    """运行一个服务（容器里运行的就是它）。"""
    if service not in SERVICES:
        fail(f"没有服务 {service}；有：{'、'.join(SERVICES)}", UNUSABLE)
    if settings().nats_seed is None and (seed := seed_of(service)):
        os.environ["YIQI_NATS_SEED"] = str(seed)
    # A fresh interpreter: the command line's own libraries would be half of a service's memory.
    os.execv(sys.executable, [sys.executable, "-m", "services.run", service])


@app.command()
def provision(
    check: Annotated[bool, typer.Option("--check", help="只核对，不创建")] = False,
    replicas: Annotated[
        int | None, typer.Option(help="JetStream 副本数，生产为3；不写则与现有的流相同，还没有流则1")
    ] = None,
    age: Annotated[
        bool, typer.Option("--age", help="把已有的流改为只保留 YIQI_STREAM_DAYS 天（更早的随即删除）")
    ] = False,
    only: Annotated[
        Literal["database", "bus"] | None, typer.Option(help="只做数据库（表和角色），或只做总线")
    ] = None,
    room: Annotated[
        list[str] | None, typer.Option(help="让一个流放得下更多，如 SME_AUDIT=4（GiB，只增不减）；可多次")
    ] = None,
) -> None:
    """建立数据库表和角色、流、消费者、存储桶；与代码不一致时拒绝（退出码1）。"""
    from services.cli.operate import provision as make

    if only == "database" and check:
        fail("--check 只核对总线；数据库的版本由各服务的 /readyz 核对", UNUSABLE)
    asyncio.run(make(settings(), check=check, replicas=replicas, age=age, only=only, room=room or ()))


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The entry point: what a person did wrong is a sentence, never a traceback."""
    try:
        # Without standalone mode an Exit comes back as a value.
        status = app(arguments, standalone_mode=False)
    except Fail as error:
        _end(str(error), error.status)
    except (NoticeBroken, DirectoryError, UnknownAgency) as error:
        _end(str(error), UNUSABLE)
    except ValidationError as error:
        _end(said(error), UNUSABLE)
    except TyperException as error:
        _end(typed(error), UNUSABLE)
    except typer.Abort:
        _end("", 130)
    except Exception as error:
        if (found := worded(error)) is None:
            raise
        _end(*found)
    sys.exit(status if isinstance(status, int) else 0)


def said(error: ValidationError) -> str:
    """What was typed and is none of what it should be, by the name of its field; never the value."""
    wrong = [f"{f.pointer.removeprefix('#/').replace('/', '.')}：{f.detail}" for f in faults(error, {})]
    return "填写有误：" + "；".join(wrong[:10])


def _end(sentence: str, status: int) -> NoReturn:
    sys.stderr.write(sentence + "\n" if sentence else "")
    sys.exit(status)
