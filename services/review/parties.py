"""Pure: which agency plays which role in a case, and what is said to whoever plays none.

What a role may do in a stage is data of the notice.
"""

from services.review.case import Case
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
