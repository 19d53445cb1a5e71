"""`yiqi catalogue versions`, `collect`, `document`: what catalogues there were, a round as a ZIP, its lists as documents.

Making catalogues is in `cases.py`; how a bundle is sealed is in `services/export/bundle.py`.
"""

import asyncio
import base64
import json
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from services.cli import common, names, printing
from services.cli.archive import writing
from services.cli.common import FINDINGS, UNUSABLE, JsonOption, console, fail, out, show
from shared.notices.calendar import SHANGHAI
from shared.runtime.accounts import OPERATOR
from shared.runtime.clock import Clock
from shared.runtime.streams import BUCKET, CATALOGUES

if TYPE_CHECKING:
    from nats.js import JetStreamContext

    from services.export.lists import Entry
    from shared.notices.load import CompiledNotice
    from shared.notices.model import Notice

Row = dict[str, Any]


def versions(
    notice: Annotated[str, typer.Option("--notice", help="通知编号")],
    form: Annotated[str | None, typer.Option(help="只看一张表")] = None,
    as_json: JsonOption = False,
) -> None:
    """目录的历次版本：各有多少行，因何而改。"""
    rows = asyncio.run(
        common.query(
            "select * from export.version where notice = :notice "
            "and (cast(:form as text) is null or form = :form) order by form, public, version",
            notice=notice,
            form=form,
        )
    )
    columns = {
        "form": "表",
        "public": "公开版",
        "version": "版本",
        "at": "时间",
        "rows": "行",
        "fact": "起因",
        "by": "单位",
        "sha256": "摘要",
    }
    show(
        rows, "目录的版本", columns, as_json=as_json,
        named={"by": lambda r: names.agency(r["by"]) if r["by"] else ""},
    )  # fmt: skip


def collect(
    notice: Annotated[str | None, typer.Option("--notice", help="通知编号，见 yiqi notice list")] = None,
    target: Annotated[Path | None, typer.Option("--out", help="写到哪个文件夹：一份文件夹和一份 ZIP")] = None,
    public: Annotated[bool, typer.Option("--public", help="公开版：不含联系方式")] = False,
    check: Annotated[
        Path | None, typer.Option("--check", help="核对以前汇集的文件夹或 ZIP，不连接任何服务")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """汇集一个通知现行的全部目录和各种格式，已公布的卡片每项一份，附清单（行数、摘要、通知及其摘要、日期、发布单位）。"""
    if check is not None:
        checked(check, as_json=as_json)
        return
    if notice is None or target is None:
        fail("请写 --notice 和 --out，或写 --check", UNUSABLE)
    name = f"{notice}{'-public' if public else ''}"
    folder, archive = target / name, target / f"{name}.zip"
    if folder.exists() or archive.exists():
        fail(f"{target} 中已有 {name}；汇集从不覆盖，请写另一个文件夹", UNUSABLE)
    sealed = asyncio.run(_collected(common.notice(notice), public=public))
    digest = write(sealed, archive, folder)
    if as_json:
        out({"folder": str(folder), "zip": str(archive), "sha256": digest, "files": sorted(sealed)})
    else:
        console.print(f"已汇集{len(sealed)}个文件：{folder}", markup=False)
        console.print(f"{archive} 的摘要 {digest}", markup=False, soft_wrap=True)


def write(sealed: dict[str, bytes], archive: Path, folder: Path | None = None) -> str:
    """The digest of the ZIP. Readable by its owner only: it may hold contact data. Whole or not at all: what a killed
    process leaves ends in `.part`, and the folder comes before the ZIP."""
    from services.export.bundle import digest, pack

    archive.parent.mkdir(parents=True, exist_ok=True)
    if folder is not None:
        from services.cli.archive import whole

        with whole(folder) as part:
            for name, data in sealed.items():
                (part / name).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                with writing(part / name) as file:
                    file.write(data)
    content = pack(sealed)
    part_ = archive.with_name(archive.name + ".part")
    part_.unlink(missing_ok=True)
    with writing(part_) as file:
        file.write(content)
    part_.rename(archive)
    return digest(content)


def checked(path: Path, *, as_json: bool) -> None:
    """Say that a bundle is as it was sealed; else what is not."""
    told = _opened(path)
    if as_json:
        out(told)
    else:
        console.print(f"{path} 完好：{len(told['files'])}个文件，逐一与清单相符", markup=False)


def _opened(path: Path) -> Row:
    from services.export.bundle import Broken, opened, unpack

    try:
        if path.is_dir():
            files = {str(one.relative_to(path)): one.read_bytes() for one in path.rglob("*") if one.is_file()}
        elif path.is_file():
            files = unpack(path.read_bytes())
        else:
            fail(f"没有 {path}", UNUSABLE)
        return opened(files).model_dump()
    except Broken as error:
        fail(f"{path}：{error}", FINDINGS)


async def _collected(compiled: "CompiledNotice", *, public: bool) -> dict[str, bytes]:
    from services.export.bundle import seal

    notice = compiled.notice
    rows = await common.query(
        "select c.*, v.at, v.fact, v.by from export.catalogue c "
        "left join export.version v using (notice, form, public, version) "
        "where c.notice = :notice and c.public = :public order by c.form",
        notice=notice.id,
        public=public,
    )
    files, cards = await printing.cards(notice, public=public)
    if not rows and not cards:
        fail(f"{notice.id} 还没有目录，见 yiqi catalogue build", FINDINGS)
    if await common.query("select form from export.stale where notice = :notice", notice=notice.id):
        fail("目录正在更新，请半分钟后再试", FINDINGS)
    async with common.bus(OPERATOR) as client:
        for row in rows:
            for one in row["files"]:
                name = _named(notice, row["form"], one["format"], public=public)
                files[name] = await _fetched(client.jetstream(timeout=5), one)
    return seal("collection", _facts(compiled, rows, cards, public=public), files)


def _named(notice: "Notice", form: str, ending: str, *, public: bool) -> str:
    from services.export.table import file_name

    return file_name(notice, notice.by_form[form], public=public, suffix=ending)


def _facts(compiled: "CompiledNotice", rows: list[Row], cards: list[Row], *, public: bool) -> Row:
    """The manifest of a round: nothing of when it was collected, so that the same catalogues are the same bytes."""
    notice = compiled.notice
    return {
        "notice": {
            "id": notice.id,
            "title": notice.title,
            "number": notice.number,
            "issued_on": notice.issued_on,
            "sha256": compiled.digest,
        },
        "published_by": {"code": notice.issuer, "name": _issuer(notice)},
        "published_on": max(row["published_on"] for row in (*rows, *cards)),
        "public": public,
        "rows": sum(row["rows"] for row in rows),
        "catalogues": [
            {
                "form": row["form"],
                "annex": notice.by_form[row["form"]].annex,
                "title": row["title"],
                "rows": row["rows"],
                "version": row["version"],
                "published_on": row["published_on"],
                "fact": row["fact"],
                "by": row["by"],
                "files": [
                    {
                        "name": _named(notice, row["form"], one["format"], public=public),
                        "sha256": one["sha256"],
                    }
                    for one in row["files"]
                ],
            }
            for row in rows
        ],
        "cards": cards,
    }


def _issuer(notice: "Notice") -> str:
    found = common.directory().find(notice.issuer)
    return found.name if found else notice.issuer


def document(
    notice: common.NoticeOption,
    target: Annotated[Path, typer.Option("--out", help="写到哪个文件夹")],
    kind: Annotated[
        Literal["proposed", "final"], typer.Option(help="proposed 拟定名单的公示，final 公布名单")
    ] = "final",
    on: Annotated[
        datetime | None, typer.Option("--on", formats=["%Y-%m-%d"], help="成文日期；不写则今天")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """拟写公示或公布名单的公文（文字为拟稿，须经审核签发）。"""
    from services.export import lists
    from services.export.formats import printed
    from services.export.paper import official

    known = common.notice(notice).notice
    day = on.date() if on else Clock(common.settings().clock).now().astimezone(SHANGHAI).date()
    try:
        made = lists.document(
            known, kind, asyncio.run(_entries(known)), issuer=_issuer(known), unit=known.unit, on=day
        )
    except lists.NoList as error:
        fail(str(error), FINDINGS)
    target.mkdir(parents=True, exist_ok=True)
    written = []
    for ending, data in printed(official(made), common.settings().fonts).items():
        path = target / f"{known.id}-{kind}.{ending}"
        path.write_bytes(data)
        written.append(str(path))
    if as_json:
        out({"title": made.title, "files": written})
    else:
        console.print(f"{made.title}：{'、'.join(written)}", markup=False, soft_wrap=True)
        console.print(lists.DRAFT)


async def _entries(notice: "Notice") -> list["Entry"]:
    from services.export.lists import Entry

    rows = await common.query(
        "select number, form, title, filer ->> 'name' as unit, district, stage, began, due, provisional "
        'from review."case" where notice = :notice order by number',
        notice=notice.id,
    )
    known = common.directory()
    found = []
    for row in rows:
        district = known.find(row["district"]) if row["district"] != notice.issuer else None
        found.append(Entry(**{**row, "district": district.short if district else ""}))
    return found


async def _fetched(jetstream: "JetStreamContext", file: Row) -> bytes:
    """An object, message by message: the operator may read what is stored and make no consumer, as nats-py's own
    reader does."""
    import nats.js.errors

    name = base64.urlsafe_b64encode(file["object"].encode()).decode()
    try:
        meta = await jetstream.get_last_msg(BUCKET, f"$O.{CATALOGUES}.M.{name}")
        about = json.loads(meta.data or b"{}")
        parts, seq = [], 0
        for _ in range(about["chunks"]):
            part = await jetstream.get_msg(
                BUCKET, seq=seq + 1, subject=f"$O.{CATALOGUES}.C.{about['nuid']}", next=True
            )
            parts.append(part.data or b"")
            seq = part.seq or 0
    except nats.js.errors.NotFoundError:
        fail(f"{file['object']} 不在存储中，或正在更新；请半分钟后再试", FINDINGS)
    data = b"".join(parts)
    if sha256(data).hexdigest() != file["sha256"]:
        fail(f"{file['object']} 与公布的摘要不符，或正在更新；请半分钟后再试", FINDINGS)
    return data
