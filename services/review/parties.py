"""Pure: which agency plays which role in a case, and what is said to whoever plays none.

What a role may do in a stage is data of the notice.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from services.review.case import ROUTE, Case, Step
from shared.contracts.problem import Problem, problem
from shared.notices.model import Notice
from shared.notices.procedure import actor_name
from shared.notices.stages import PARTIES


def who(notice: Notice, case: Case, role: str) -> str | None:
    """The agency that plays a role in this case; nobody plays the clock."""
    if role in notice.roles:
        return notice.roles[role].agency
    parties = {"filer": case.filer.code, "recommender": case.recommender, "district": case.district}
    return notice.issuer if role == "city" else parties.get(role)


def playing(notice: Notice, case: Case) -> dict[str, list[str]]:
    """Every agency that plays a role in this case, and which ones."""
    found: dict[str, list[str]] = {}
    for role in (*PARTIES, *notice.roles):
        if agency := who(notice, case, role):
            found.setdefault(agency, []).append(role)
    return found


def bodies(notice: Notice) -> dict[str, list[str]]:
    """Those that play a role in every case of a notice."""
    found: dict[str, list[str]] = {notice.issuer: ["city"]}
    for name, role in notice.roles.items():
        found.setdefault(role.agency, []).append(name)
    return found


def changed(
    notices: Mapping[str, Notice], known: Mapping[UUID, Case], steps: Sequence[Step]
) -> list[dict[str, Any]]:
    """The parties of cases that begin or go another way, and those that are no party any more: `until` is the last
    version in which they could act."""
    rows: dict[tuple[UUID, str], dict[str, Any]] = {}
    now = dict(known)
    for step in steps:
        case, before = step.case, now.get(step.case.case)
        now[case.case] = case
        if before and all(getattr(before, name) == getattr(case, name) for name in ROUTE):
            continue
        plays = playing(notices[case.notice], case)
        left = playing(notices[case.notice], before) if before else {}
        for agency, roles in {**left, **plays}.items():
            until = None if agency in plays else case.version
            rows[case.case, agency] = {"case": case.case, "agency": agency, "roles": roles, "until": until}
    return list(rows.values())


def no_party(notice: Notice, case: Case, actor: str) -> Problem | None:
    """Whether the case exists is all that a stranger learns; not where it stands or whose it is."""
    roles = (*PARTIES, *notice.roles)
    if actor in {who(notice, case, role) for role in roles}:
        return None
    return problem("authority", "无权办理", "您不是本项目的办理单位", status=403)


def stranger(notice: Notice, case: Case, role: str, actor: str, what: str) -> Problem | None:
    """Why `actor` may not do what this role does."""
    if actor == who(notice, case, role):
        return None
    names = {"filer": "填报单位", "city": "发布通知的市级部门"}
    name = names.get(role) or actor_name(notice, role)
    return problem("authority", "无权办理", f"“{what}”由本项目的{name}办理", status=403)
