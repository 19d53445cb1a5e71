"""The letters as templates: those of the package and, part by part, what a mounted folder has instead.

What a letter is written from is in `owed.py` and `cases.py`; whether a template is good in `check.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Self

from jinja2 import (
    BaseLoader,
    ChoiceLoader,
    FileSystemLoader,
    PackageLoader,
    StrictUndefined,
    Template,
    TemplateSyntaxError,
    select_autoescape,
)
from jinja2.sandbox import ImmutableSandboxedEnvironment

from services.notify.words import DERIVED, FILTERS

BASE = "_base"
PARTS = ("subject.txt", "body.txt", "body.html")
HERE = resources.files(__package__) / "letters"

LETTERS = tuple(sorted(f.name for f in HERE.iterdir() if f.is_dir() and f.name != BASE))
"""Every letter that can be written. A mounted folder changes how one reads, not which there are: what is owed, and to
whom, is code."""

OCCASIONS = {
    "accepted": "项目立案，或案内重新报送的内容已收到",
    "action_wanted": "项目转到某单位办理",
    "daily": "每天一次，给运维人员",
    "deadline": "通知的期限或补正期限临近、当日、已过",
    "digest": "早上一封，汇总当天的各项提醒",
    "duty_due": "应报的事项临近期限，尚未收到",
    "duty_missed": "应报的事项期限届满仍未收到",
    "expiring": "有效期或阶段期限将满",
    "ground_raised": "登记了可能撤销的事由，告知有权提出的单位",
    "hearing": "提出撤销，听取报送单位意见",
    "judged": "收到一包表格，逐表答复",
    "june_activity": "6月主题服务活动尚未报送",
    "kept": "不予撤销，保留认定",
    "misdirected": "不属本区，退回改报",
    "not_selected": "遴选后未入选",
    "proposed": "列入拟定名单，正在公示",
    "published": "名单公布，或内容已发布",
    "recommend_wanted": "项目等待推荐单位审核",
    "refused": "以事件报送的一件未接收",
    "rejected": "审核不予通过",
    "renewed": "复核通过，有效期延长",
    "report_received": "定期报告已收到",
    "returned": "退回修改",
    "revocation_proposed": "项目转入撤销审定",
    "revoked": "撤销认定",
    "selected": "遴选后入选",
    "undelivered": "信函没有送达，告知须设法通知对方的单位",
}
"""When each is owed, for people."""

OPTIONAL: frozenset[str] = frozenset()
"""Letters that a reader may unsubscribe from. None today: decisions, deadlines and what an agency must do (also the
activities of June: 各区…须策划并报送, 征集通知·一(二)2) are owed whether they are wanted or not, and an operator who no longer
gets the daily report would not see what fails. News or publicity would belong here."""


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """What is wrong with a template, where, in Chinese."""

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.file} 第{self.line}行：{self.message}" if self.line else f"{self.file}：{self.message}"


class BadLetters(ValueError):
    """Letters that could not be written as they should; a service does not start with them."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("信函模板有误：\n" + "\n".join(map(str, faults)))
        self.faults = faults


@dataclass(frozen=True, slots=True)
class Written:
    """A letter in words, and nothing of a mail yet."""

    subject: str
    text: str
    html: str


@dataclass(frozen=True, slots=True)
class Letters:
    """Compiled once, before anything is sent. The templates run in a sandbox: a mounted one reaches the values of its
    letter and nothing else, and a name that nothing gives is an error and never an empty place."""

    env: ImmutableSandboxedEnvironment
    folder: Path | None
    templates: Mapping[str, Template]
    optional: frozenset[str] = OPTIONAL

    @classmethod
    def load(cls, folder: Path | None = None) -> Self:
        """Raises `BadLetters` for what cannot even be read as a template."""
        env = _environment(folder)
        faults = list(_strays(folder)) if folder else []
        compiled: dict[str, Template] = {}
        for part in parts():
            try:
                compiled[part] = env.get_template(part)
            except TemplateSyntaxError as error:
                # The part that it stands in, which may be one that this part is built on.
                faults.append(
                    Fault(_where(folder, error.name or part), error.lineno, f"模板语法有误：{error}")
                )
            except UnicodeDecodeError:
                faults.append(Fault(_where(folder, part), 0, "不是 UTF-8 文本"))
        if faults:
            raise BadLetters(sorted(set(faults)))
        return cls(env, folder, compiled)

    def write(self, letter: str, context: Mapping[str, Any]) -> Written:
        """Raises a `TemplateError`, or `LookupError` for a letter that there is not, and what filters raise."""
        subject, text, html = (self.templates[f"{letter}/{part}"] for part in PARTS)
        line = subject.render(context)
        return Written(line, text.render(context), html.render(context, subject=" ".join(line.split())))

    def blocks(self, letter: str, context: Mapping[str, Any], names: Sequence[str]) -> dict[str, str]:
        """Parts of the plain text, for a letter that is told within another."""
        template = self.templates[f"{letter}/body.txt"]
        said = template.new_context(dict(context))
        return {name: "".join(template.blocks[name](said)).strip() for name in names}

    def overridden(self, letter: str) -> list[str]:
        """Its parts that the mounted folder has."""
        return [part for part in PARTS if self.folder and (self.folder / letter / part).is_file()]

    def source(self, part: str) -> str:
        assert self.env.loader is not None
        return self.env.loader.get_source(self.env, part)[0]

    def where(self, part: str) -> str:
        """A part as people find it: in the mounted folder, else in the package."""
        return _where(self.folder, part)


def parts() -> list[str]:
    """Every template by name: `returned/body.txt`."""
    return [f"{BASE}/{part}" for part in PARTS[1:]] + [f"{x}/{part}" for x in LETTERS for part in PARTS]


def _where(folder: Path | None, part: str) -> str:
    return str(folder / part) if folder and (folder / part).is_file() else f"letters/{part}"


def _strays(folder: Path) -> list[Fault]:
    """What was meant to change a letter and would change none; a name with a dot is Kubernetes' or an editor's."""
    if not folder.is_dir():
        return [Fault(str(folder), 0, "没有这个文件夹")]
    known = set(parts())
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder)
        if any(piece.startswith(".") for piece in name.parts) or name.as_posix() in known:
            continue
        if len(name.parts) == 2 and name.parts[0] in LETTERS:
            message = f"信函只有 {'、'.join(PARTS)}"
        else:
            message = f"没有这封信函；现有 {'、'.join(LETTERS)}，以及各信函共用的 {BASE}"
        found.append(Fault(str(path), 0, message))
    return found


def _environment(folder: Path | None) -> ImmutableSandboxedEnvironment:
    packaged: BaseLoader = PackageLoader("services.notify", "letters")
    env = ImmutableSandboxedEnvironment(
        loader=ChoiceLoader([FileSystemLoader(folder), packaged]) if folder else packaged,
        undefined=StrictUndefined,
        autoescape=select_autoescape(enabled_extensions=("html",), default=False),
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        # All of them are compiled once, more than the 400 that Jinja keeps by itself one day.
        cache_size=-1,
    )
    env.filters |= FILTERS
    # What a person typed stays text in HTML; no template may say otherwise.
    del env.filters["safe"]
    env.globals = {"DERIVED": DERIVED}
    return env
