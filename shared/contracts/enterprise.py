"""What authorities tell of an enterprise: the titles that it holds, the investments that were approved.

What an enterprise is entitled to is not here. Who may tell what, and what must agree in it, is intake's.
"""

from typing import Annotated, Literal

from pydantic import StringConstraints

from shared.contracts.scalars import Day, Moment
from shared.contracts.types import Inbound, Outbound, Short, Token

Uscc = Annotated[str, StringConstraints(pattern=r"^[0-9A-HJ-NPQRTUWXY]{18}$")]
"""统一社会信用代码; intake checks its last character (R-GEN-001)."""

District = Annotated[str, StringConstraints(pattern=r"^[0-9]{6}$")]

Title = Literal["innovative", "specialised", "little_giant", "champion", "green_factory"]
"""创新型中小企业, 专精特新中小企业, 专精特新“小巨人”企业, 国家级制造业单项冠军企业 (13号·(一)), 国家级绿色工厂 (13号·(二十一))."""

Purpose = Literal["renovation", "small_renovation", "expansion", "digital"]
"""技术改造, “小技改”, 增资扩产 (13号·(十二)), 数字化转型 (13号·(十四))."""

WanYuan = Annotated[str, StringConstraints(pattern=r"^(0|[1-9][0-9]{0,9})(\.[0-9]{1,6})?$")]
"""An amount in 万元, as a decimal text: no reader may round it."""


class Enterprise(Inbound):
    uscc: Uscc
    name: Short


class TitleGranted(Inbound):
    """An enterprise holds a title, by a document of whoever recognises it. Told again of the same enterprise and title,
    the last one counts: a title that ended early is told with its new `valid_until`."""

    enterprise: Enterprise
    district: District
    title: Title
    granted_on: Day
    valid_from: Day
    valid_until: Day | None = None
    """The last day; the sources do not say how long a title holds."""
    reviewed_on: Day | None = None
    """The day on which it passed its review (经复核通过)."""
    document: Short
    """The number of the document."""


class InvestmentApproved(Inbound):
    """What was approved (核定) of a project of an enterprise: its investment, the equipment bought for it, or both.
    Told again of the same project, the last one counts."""

    enterprise: Enterprise
    district: District
    project: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,64}$")]
    """The code under which the project is on file."""
    project_name: Short
    purpose: Purpose
    investment: WanYuan | None = None
    equipment: WanYuan | None = None
    approved_on: Day
    completed_on: Day | None = None
    document: Short


class EnterpriseTold(Outbound):
    uscc: str
    name: str


class TitleRecorded(Outbound):
    """Intake has put on record what an authority told of a title."""

    enterprise: EnterpriseTold
    district: str
    title: str
    granted_on: Day
    valid_from: Day
    valid_until: Day | None = None
    reviewed_on: Day | None = None
    document: str
    by: Token
    """The agency that told it."""
    received: Moment


class InvestmentRecorded(Outbound):
    """Intake has put on record what an authority told of an investment."""

    enterprise: EnterpriseTold
    district: str
    project: str
    project_name: str
    purpose: str
    investment: WanYuan | None = None
    equipment: WanYuan | None = None
    approved_on: Day
    completed_on: Day | None = None
    document: str
    by: Token
    received: Moment
