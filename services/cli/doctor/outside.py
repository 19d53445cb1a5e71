"""What `yiqi ops doctor` sees without NATS and PostgreSQL: mounted files, the calendar, keys and certificates, the relay.

How a mail is sent is in the notify service; here its relay is greeted, and nothing is handed over.
"""

import asyncio
import ssl
import stat
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from services.cli.doctor.line import Line, Topic, asked, lasted
from shared.notices.calendar import SHANGHAI, Calendar, CalendarError
from shared.notices.directory import Directory, DirectoryError
from shared.notices.load import NoticeBroken, load_all
from shared.runtime.settings import Settings

SOON = timedelta(days=30)
"""How long before its end a certificate is told of: a bureau needs its weeks for a new one (ours)."""


async def look(settings: Settings, now: datetime) -> list[Line]:
    found: list[Line] = []
    for topic, check in (
        (Topic("notices", "通知"), _notices),
        (Topic("agencies", "单位名录"), _agencies),
        (Topic("letters", "信函"), _letters),
        (Topic("calendar", "工作日日历"), _calendar),
        (Topic("keys", "密钥和证书文件"), _keys),
        (Topic("smtp", "邮件服务器", "核对 YIQI_SMTP_HOST、YIQI_SMTP_PORT 和网络"), _smtp),
    ):

        async def checked(topic: Topic, check: Any = check) -> Sequence[Line]:
            result: Sequence[Line] = await check(topic, settings, now)
            return result

        found += await asked(topic, checked)
    return found


# --- files -------------------------------------------------------------------------------------------


async def _notices(topic: Topic, settings: Settings, now: datetime) -> Sequence[Line]:
    try:
        loaded = load_all(settings.notices)
    except NoticeBroken as error:
        first = str(error).splitlines()[0]
        return [topic.fault(f"有错误，服务不会启动：{first}", "yiqi notice check 文件")]
    return [topic.good(f"{len(loaded)}份，没有错误{_from(settings.notices)}")]


async def _agencies(topic: Topic, settings: Settings, now: datetime) -> Sequence[Line]:
    try:
        found = Directory.load(settings.agencies)
    except DirectoryError as error:
        return [topic.fault(f"有错误，服务不会启动：{str(error).splitlines()[0]}", "yiqi agency list")]
    return [topic.good(f"{len(found.agencies)}个单位{_from(settings.agencies)}")]


async def _letters(topic: Topic, settings: Settings, now: datetime) -> Sequence[Line]:
    from services.notify.check import load
    from services.notify.templates import LETTERS, BadLetters

    try:
        letters = load(settings.letters, load_all(settings.notices), Directory.load(settings.agencies))
    except BadLetters as error:
        return [
            topic.fault(f"{len(error.faults)}处错误，notify 不会启动：{error.faults[0]}", "yiqi letter check")
        ]
    except (NoticeBroken, DirectoryError):
        return []  # told already
    changed = sum(len(letters.overridden(name)) for name in LETTERS)
    return [topic.good(f"{len(LETTERS)}封，改写{changed}部分{_from(settings.letters)}")]


def _from(folder: Path | None) -> str:
    return f"（另加 {folder}）" if folder else "（仅随包）"


async def _calendar(topic: Topic, settings: Settings, now: datetime) -> Sequence[Line]:
    """Years ahead that dates of notices lie in are told with what waits for a person (`data.py`)."""
    today = now.astimezone(SHANGHAI).date()
    do = "把国务院办公厅的放假安排放进 YIQI_CALENDARS 的文件夹，重启各服务"
    try:
        calendar = Calendar.load(settings.calendars)
    except CalendarError as error:
        return [topic.fault(f"有错误，服务不会启动：{error}", do)]
    missing = [year for year in (today.year, today.year + 1) if calendar.provisional(date(year, 1, 1))]
    if today.year in missing:
        return [topic.fault(f"没有{today.year}年的放假安排，今年的日期都是暂定的", do)]
    # It is published towards the end of the year: before, its absence is nobody's omission.
    if missing and today.month == 12:
        return [topic.attention(f"没有{missing[0]}年的放假安排，跨年的日期是暂定的", do)]
    return [topic.good(f"有{today.year}年的放假安排；{today.year + 1}年{'尚未公布' if missing else '也有'}")]


# --- keys --------------------------------------------------------------------------------------------


async def _keys(topic: Topic, settings: Settings, now: datetime) -> Sequence[Line]:
    """Real time, whatever the clock of the services says: certificates are judged by it."""
    found = [*_seeds(topic, settings)]
    for what, path in (("NATS 的 CA 证书", settings.nats_ca), ("NATS 的客户端证书", settings.nats_cert)):
        if path is not None:
            found.append(ending(topic, f"{what} {path}", certificate(path)))
    return found or [topic.good("没有配置证书；种子文件只有所有者能读")]


def _seeds(topic: Topic, settings: Settings) -> Iterator[Line]:
    folder = settings.nats_seeds
    paths = [settings.nats_seed, settings.nats_key, *(sorted(folder.glob("*.nk")) if folder else ())]
    for path in filter(None, paths):
        if not path.is_file():
            yield topic.fault(f"没有文件 {path}", "核对 YIQI_NATS_SEED、YIQI_NATS_KEY 和挂载的 Secret")
        elif path.stat().st_mode & stat.S_IROTH:
            yield topic.attention(f"{path} 谁都能读", f"chmod o-rwx {path}")


def certificate(path: Path) -> Mapping[str, Any] | None:
    """The first certificate of a file, as `getpeercert` has it. The standard library reads a certificate of its own only
    through what its tests use; a library for it would be a dependency of all services."""
    try:
        told: Mapping[str, Any] = ssl._ssl._test_decode_cert(str(path))  # type: ignore[attr-defined]
    except (OSError, ssl.SSLError):
        return None
    return told


def ending(topic: Topic, what: str, told: Mapping[str, Any] | None) -> Line:
    """How long a certificate still holds."""
    if not told or "notAfter" not in told:
        return topic.fault(f"{what}：读不出证书", "核对文件和挂载的 Secret")
    until = datetime.fromtimestamp(ssl.cert_time_to_seconds(told["notAfter"]), UTC)
    left = until - datetime.now(UTC)
    day = until.astimezone(SHANGHAI).date()
    do = "换发证书，更新 Secret，再重启用它的服务"
    if left < timedelta():
        return topic.fault(f"{what}已于{day}到期", do)
    if left < SOON:
        return topic.attention(f"{what}还有{lasted(left)}到期（{day}）", do)
    return topic.good(f"{what}有效至{day}")


# --- the relay ---------------------------------------------------------------------------------------


async def _smtp(topic: Topic, settings: Settings, now: datetime) -> Sequence[Line]:
    """Connected, greeted, TLS and password tried, as before a mail; then farewell."""
    import aiosmtplib

    from services.notify.sending import relay_of

    relay = relay_of(settings, timeout=10)
    where = f"{settings.smtp_host}:{settings.smtp_port}"
    try:
        told = await relay.greet()
    except aiosmtplib.SMTPAuthenticationError as error:
        return [
            topic.fault(
                f"{where} 不接受用户名或口令（{error.code}）", "核对 YIQI_SMTP_USER 和 YIQI_SMTP_PASSWORD"
            )
        ]
    except aiosmtplib.SMTPResponseException as error:
        return [topic.fault(f"{where} 拒绝（{error.code}）", topic.do)]
    except (aiosmtplib.SMTPException, OSError) as error:
        # aiosmtplib wraps what the handshake said.
        cause = error.__cause__ or error.__context__ or error
        if isinstance(cause, ssl.SSLError) or "TLS" in str(error) or "CERTIFICATE" in str(error):
            why = getattr(cause, "verify_message", "") or str(error)
            return [topic.fault(f"{where} 的 TLS 没有谈成：{why[:120]}", "核对 YIQI_SMTP_SECURITY 和证书")]
        return [topic.fault(f"没有连上 {where}：{type(error).__name__}", topic.do)]
    finally:
        await relay.close()
    how = {"plain": "未加密", "starttls": "STARTTLS", "tls": "TLS"}[settings.smtp_security]
    lines = [topic.good(f"{where} 应答 EHLO，{how}{'，已登录' if settings.smtp_user else ''}；未发信")]
    if settings.smtp_security == "plain" and not await _is_here(settings.smtp_host):
        lines = [
            topic.attention(f"{where} 应答，但与它的连接未加密", "设置 YIQI_SMTP_SECURITY=starttls 或 tls")
        ]
    return [*lines, ending(topic, "邮件服务器的证书", told)] if told else lines


async def _is_here(host: str) -> bool:
    """Whether a host is this machine, to which nothing need be encrypted."""
    import ipaddress
    import socket

    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return all(ipaddress.ip_address(address[0]).is_loopback for *_, address in found)
