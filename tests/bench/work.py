"""What is filed: the same events for every implementation, of the size and mix of a real round.

How they travel and what is done with them is not here.
"""

import json
import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from services.intake.parse import case_of
from shared.contracts.registry import SUBMISSION_FILED
from shared.contracts.submission import Filer, SubmissionFiled
from shared.notices.directory import Agency, Directory, unlisted

NOTICE = "gz-collection-2025q1"
FILED_ON = datetime(2025, 2, 25, 9, tzinfo=UTC)
"""Within the round, so that no row is late: the services run with their clock set to it."""

ITEMS_A_FILER = 3
DOMAINS = (
    "★人工智能新兴产业分析（数字化赋能）",
    "市场拓展（出海服务）",
    "政策宣贯",
    "法律服务",
    "引才育才",
    "融资促进",
)
PHRASES = (
    "面向中小制造企业提供生产排程、设备联网和能耗分析服务",
    "由执业律师现场解答合同、用工和知识产权方面的问题",
    "帮助企业对接银行、担保和股权投资机构，降低融资成本",
    "讲解专精特新企业认定条件、申报材料和常见误区",
    "介绍重点海外市场的准入、物流、税务与合规要求",
    "组织园区企业开展供需对接，现场签约并跟踪落地情况",
)


def offset() -> timedelta:
    """What the clock of the services must be moved by."""
    return FILED_ON - datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Filed:
    """One `submission.filed`; `case` is the case that it becomes, by which its mail is found again."""

    id: UUID
    subject: str
    body: bytes
    case: UUID


def filings(n: int, seed: str) -> Iterator[Filed]:
    """`n` distinct items: half 附件3, half 附件4; one in ten of a listed agency, the rest of institutions that
    recommend themselves, three items each."""
    chance = random.Random(seed)
    directory = Directory.load()
    listed = [a for kind in ("K1", "K2", "K5") for a in directory.of_kind(kind)]
    for i in range(n):
        own = unlisted(f"广州{seed}号{i // ITEMS_A_FILER}企业服务有限公司")
        agency = chance.choice(listed) if i % 10 == 0 else own
        yield _filed(agency, i, seed, chance)


def _filed(agency: Agency, i: int, seed: str, chance: random.Random) -> Filed:
    def text(phrases: int) -> str:
        return "；".join(chance.choices(PHRASES, k=phrases))

    # One contact a unit, as people write it on each of their rows.
    contact = f"陈晓明 138{zlib.crc32(agency.code.encode()) % 10**8:08}"
    if i % 2:
        form, title = "F3", f"中小企业服务专场活动第{seed}-{i}期"
        values = {
            "service_domain": chance.choice(DOMAINS),
            "organizer": agency.name,
            "activity_name": title,
            "activity_time": f"2025年{chance.randint(4, 11)}月{chance.randint(1, 28)}日",
            "venue": "广州市黄埔区科学城开源大道11号创新大厦会议中心",
            "content": text(12),
            "participants": f"约{chance.randint(5, 30) * 10}人",
            "contact": contact,
        }
    else:
        form, title = "F4", f"智能排产与能耗分析系统{seed}-{i}"
        values = {
            "company_name": agency.name,
            "contact": contact,
            "product_name": title,
            "problem_analysis": text(4),
            "scenario": text(3),
            "product_brief": text(3),
            "application_scenarios": text(2),
        }
    data = SubmissionFiled(
        notice=NOTICE,
        form=form,
        filer=Filer(
            code=agency.code, kind=agency.kind, name=agency.name, email=f"office@{agency.code}.example.cn"
        ),
        values=values,
    )
    source = f"urn:cn:gov:gz:{agency.code}:bench"
    event = SUBMISSION_FILED.event(data, "bench", seed, i, at=datetime.now(UTC), source=source)
    case = case_of(NOTICE, form, agency.code, title)
    return Filed(UUID(event.id), SUBMISSION_FILED.subject(agency.code), event.wire(), case)


def as_task(filed: Filed) -> bytes:
    """The same event as a taskiq task: its own JSON, so that the bench needs no taskiq."""
    task = {
        "task_id": str(filed.id),
        "task_name": "tests.bench.peer_taskiq:receive",
        "labels": {},
        "labels_types": {},
        "args": [filed.body.decode()],
        "kwargs": {},
    }
    return json.dumps(task, ensure_ascii=False).encode()
