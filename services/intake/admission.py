"""Who may file at all, for whom, by which way: before and beside what is filed.

What the rows say is judged in `parse.py`.
"""

from services.intake.findings import fault, in_words_of
from shared.contracts.submission import Filer
from shared.contracts.types import Finding, Values
from shared.notices.directory import Agency, Directory, UnknownAgency, normal, unlisted
from shared.notices.load import CompiledNotice
from shared.notices.model import Form, Notice
from shared.notices.procedure import start


def admit(
    notice: CompiledNotice | None, directory: Directory, filer: Filer, recommender: str | None, token: str
) -> tuple[Agency | None, list[Finding]]:
    """Whether this publisher may file as this unit (R-GEN-011): the token of the subject is proven, what
    the event says of itself is only compared with it."""
    found: list[Finding] = []
    if notice is None:
        return None, [fault("notice", "notice.unknown", "没有这个通知", "#/data/notice")]
    if notice.notice.status != "in_force":
        found.append(fault("notice", "notice.closed", "该通知不在征集期内", "#/data/notice"))
    agency = directory.find(token)
    if filer.code != token:
        found.append(_identity("code", f"只能以发布者 {token} 的名义报送", "#/data/filer/code"))
    elif agency is None:
        if filer.kind != "K6" or token != _own_code(filer.name):
            found.append(
                _identity(
                    "unknown",
                    "名录中没有这个单位；服务机构自荐请用由机构名称得出的代码",
                    "#/data/filer/code",
                )
            )
    else:
        if filer.kind != agency.kind:
            found.append(_identity("kind", f"名录中该单位的类别是 {agency.kind}", "#/data/filer/kind"))
        if normal(filer.name) not in {normal(n) for n in agency.names()}:
            found.append(_identity("name", "单位名称与名录不一致", "#/data/filer/name"))
    if recommender is not None:
        by = directory.find(recommender)
        if by is None or by.kind not in ("K1", "K2", "K5"):
            found.append(
                fault(
                    "ST-COL-2",
                    "recommender",
                    "推荐单位应为有关部门、区主管部门或行业协会（名录代码）",
                    "#/data/recommender",
                    notice.notice.clause_name,
                )
            )
    return agency, in_words_of(notice.notice, found)


def _identity(code: str, detail: str, pointer: str) -> Finding:
    return fault("R-GEN-011", f"identity.{code}", detail, pointer, "R-GEN-011")


def _own_code(name: str) -> str | None:
    try:
        return unlisted(name).code
    except UnknownAgency:
        return None


def district_of(agency: Agency | None, recommender: Agency | None, city: str) -> str:
    for one in (recommender, agency):
        if one is not None and one.district:
            return one.district
    return city


def route(notice: Notice, form: Form, recommended: bool, values: Values) -> list[Finding]:
    """Whether a case begins anywhere, filed this way; if not, by which way it would."""
    if form.report or form.continues or start(notice.procedure, form.id, recommended, values):
        return []
    other = start(notice.procedure, form.id, not recommended, values)
    if other is None:
        detail = f"本通知没有规定{form.annex}的这种情况由谁受理，请核对所填内容"
    elif recommended:
        detail = f"{form.annex}直接报送“{other.name}”，不经推荐单位；请去掉推荐单位后报送"
    else:
        detail = f"{form.annex}须经推荐单位报送，由其办理“{other.name}”；请写明推荐单位（名录代码）"
    return [fault("route", "route", detail, "#/data/recommender", notice.clause_name)]
