"""Letters from a mounted folder, in a service as it runs: what is changed is what is sent, and a fault stops it at once.

What counts as a fault is in tests/unit/test_letters.py.
"""

import asyncio
import email.policy
from datetime import UTC, datetime
from email import message_from_bytes
from pathlib import Path

import pytest

from services.cli.local import Local
from shared.contracts import registry
from shared.contracts.submission import SubmissionRefused
from shared.contracts.types import Finding, Party
from shared.runtime.embedded import wait_until

AT = datetime(2025, 3, 5, 1, 30, tzinfo=UTC)
REFUSED = SubmissionRefused(
    notice="gz-collection-2025q1",
    form="F3",
    filer=Party(code="shili", kind="K6", name="示例单位", email="shili@example.com"),
    title="示例活动",
    findings=(Finding(severity="hard", rule="F3.02", code="missing", clause="附件3", detail="不能为空"),),
    received=AT,
)


async def tell(local: Local) -> None:
    """An event that owes a letter at once and needs no case."""
    client = await local.connect()
    _, body = registry.SUBMISSION_REFUSED.wire(REFUSED, "test", at=AT)
    await client.jetstream().publish(registry.SUBMISSION_REFUSED.subject("shili"), body)
    await client.close()


def test_what_is_mounted_is_sent_or_nothing_is(tmp_path: Path) -> None:
    mounted = tmp_path / "mounted"
    subject = mounted / "refused" / "subject.txt"
    subject.parent.mkdir(parents=True)
    subject.write_text("〔请改正〕{{ title }}\n")
    local = Local(
        tmp_path / "local",
        sync_always=False,
        accounts=False,
        services=("notify",),
        extra={
            "YIQI_LETTERS": str(mounted),
            "YIQI_MAIL_REPLY_TO": "office@example.com",
        },
    )
    with local:
        asyncio.run(tell(local))
        wait_until(lambda: any(local.mails.directory.glob("*.eml")), 30, "the mail")
        (path,) = local.mails.directory.glob("*.eml")
        mail = message_from_bytes(path.read_bytes(), policy=email.policy.default)
        assert mail["Subject"] == "〔请改正〕示例活动"
        assert mail["Reply-To"] == "office@example.com"

        # As after the next rollout, with a fault in it.
        local.kill("notify")
        subject.write_text("〔请改正〕{{ tag }}\n")
        local.launch("notify")
        with pytest.raises(RuntimeError, match="第1行：没有名为 tag 的值"):
            local.ready()
