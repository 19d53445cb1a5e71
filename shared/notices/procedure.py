"""The procedure of a notice as a table that can be walked and drawn.

Whether an officer may act for an agency, and what a step causes, is not here: that is the review service.
"""

from collections.abc import Iterator
from typing import Literal

from shared.notices.model import Notice, Outcome, Procedure, Stage

Actor = Literal["filer", "recommender", "city"]

ACTORS: dict[Actor, str] = {"filer": "申报单位", "recommender": "推荐单位", "city": "市局"}


class NotAllowed(ValueError):
    """The procedure has no such step here; the message, in Chinese, lists those that it has."""


def start(procedure: Procedure, recommended: bool) -> Stage:
    """Where a case begins that was filed with a recommending agency, or without one."""
    return next(procedure.by_id[s.stage] for s in procedure.start if s.recommended is recommended)


def step(procedure: Procedure, stage_id: str, outcome: str) -> Outcome:
    """What this outcome means in this stage, and where it leads."""
    stage = procedure.by_id.get(stage_id)
    if stage is None:
        raise NotAllowed(f"办理程序中没有阶段“{stage_id}”；现有：{'、'.join(procedure.by_id)}")
    if stage.ends is not None:
        raise NotAllowed(f"“{stage.name}”已办结，不能再作决定")
    found = stage.outcomes.get(outcome)
    if found is None:
        options = "、".join(
            f"{key}（{ACTORS[who_acts(stage, one)]}{one.name}）" for key, one in stage.outcomes.items()
        )
        raise NotAllowed(f"“{stage.name}”阶段没有“{outcome}”；可用：{options}")
    return found


def who_acts(stage: Stage, outcome: Outcome) -> Actor:
    """Who may decide this: the stage's actor, unless the outcome has its own."""
    return outcome.actor or stage.actor


def draw(notice: Notice) -> str:
    """The procedure as a Mermaid state diagram."""
    return "\n".join(_lines(notice.procedure)) + "\n"


def _lines(procedure: Procedure) -> Iterator[str]:
    yield "stateDiagram-v2"
    yield "    direction LR"
    for stage in procedure.stages:
        days = f"（{stage.within.working_days}个工作日内）" if stage.within else ""
        yield f'    state "{stage.name}{days}" as {stage.id}'
    for begin in procedure.start:
        yield f"    [*] --> {begin.stage}: {'有推荐单位' if begin.recommended else '直接报送'}"
    for stage in procedure.stages:
        for outcome in stage.outcomes.values():
            actor = ACTORS[who_acts(stage, outcome)]
            yield f"    {stage.id} --> {outcome.to}: {outcome.name}（{actor}）"
        if stage.ends:
            yield f"    {stage.id} --> [*]"
