"""Who may import whom, what pure modules may not know, and that every declared list agrees with the code.

Read from the source with `ast`; nothing is started. A failure says what to change.
"""

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from prometheus_client import Counter, Gauge, Histogram

from services.notify.templates import LETTERS, PARTS
from shared.contracts import registry
from shared.contracts.registry import EVENTS, EventType
from shared.notices.load import load_all
from shared.runtime import SERVICES, metrics
from shared.runtime.settings import Settings
from shared.runtime.streams import CONSUMERS, STREAM_OF, STREAMS

ROOT = Path(__file__).parents[2]
MODULES = tuple(
    sorted(
        p.relative_to(ROOT)
        for folder in ("shared", "services")
        for p in (ROOT / folder).rglob("*.py")
        if p.parent.name != "migrations" and "__pycache__" not in p.parts
    )
)
PURE = (
    "services/intake/parse.py",
    "services/intake/workbook.py",
    "services/intake/cards.py",
    "services/intake/labels.py",
    "services/review/case.py",
    "services/review/terms.py",
    "services/review/decide.py",
    "services/review/duties.py",
    "services/review/panel.py",
    "services/review/parties.py",
    "services/review/replay.py",
    "services/review/telling.py",
    "services/notify/owed.py",
    "services/notify/recipients.py",
    "services/notify/cases.py",
    "services/notify/digest.py",
    "services/notify/hours.py",
    "services/notify/quotes.py",
    "services/notify/reminders.py",
    "services/notify/compose.py",
    "services/notify/templates.py",
    "services/notify/words.py",
    "services/notify/dates.py",
    "services/notify/check.py",
    "services/notify/samples.py",
    "services/notify/headers.py",
    "services/notify/verp.py",
    "services/notify/bounces.py",
    "services/notify/undelivered.py",
    "services/notify/pace.py",
    "services/export/bundle.py",
    "services/export/lists.py",
    "services/export/official.py",
    "services/export/sheet.py",
    "services/export/table.py",
    "services/cli/report/figure.py",
    "services/cli/report/funnel.py",
    "services/cli/report/districts.py",
    "services/cli/report/ahead.py",
    "services/cli/report/page.py",
    "services/export/paper.py",
    "services/export/plain.py",
    *(str(p) for p in MODULES if p.is_relative_to("shared/notices") or p.is_relative_to("shared/contracts")),
)
LINES = 500
LONGER = {"services/cli/demo/__init__.py", "services/cli/demo/rows.py"}
"""Modules over the limit whose split is pending."""


@cache
def tree(module: Path) -> ast.Module:
    return ast.parse((ROOT / module).read_text(), str(module))


def imports(module: Path) -> set[str]:
    """Every module that is imported anywhere in it, by full name."""
    found: set[str] = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: write the full name of what is imported"
            assert node.module
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                is_module = (ROOT / (inner.replace(".", "/") + ".py")).exists() or (
                    ROOT / inner.replace(".", "/")
                ).is_dir()
                found.add(inner if is_module else node.module)
    return found


def top(name: str) -> str:
    return name.split(".")[0]


def foreign(module: Path) -> set[str]:
    """What it imports from outside: neither the standard library nor this house."""
    return {top(i) for i in imports(module)} - sys.stdlib_module_names - {"shared", "services"}


def below(folder: str) -> list[Path]:
    return [m for m in MODULES if m.is_relative_to(folder)]


def inside(names: set[str], *packages: str) -> set[str]:
    return {n for n in names if any(n == p or n.startswith(p + ".") for p in packages)}


def ours(module: Path) -> set[str]:
    return {i for i in imports(module) if top(i) in ("shared", "services")}


# --- who may import whom -----------------------------------------------------------------------------


@pytest.mark.parametrize("module", below("shared/contracts"), ids=str)
def test_contracts_know_pydantic_and_nothing_else(module: Path) -> None:
    assert foreign(module) - {"pydantic", "pydantic_core"} == set()
    assert ours(module) - inside(ours(module), "shared.contracts") == set()


@pytest.mark.parametrize("module", below("shared/notices"), ids=str)
def test_notices_know_contracts_and_the_libraries_of_their_trade(module: Path) -> None:
    allowed = {"pydantic", "pydantic_core", "ruamel", "cel_expr_python", "phonenumbers", "email_validator"}
    assert foreign(module) - allowed == set()
    assert ours(module) - inside(ours(module), "shared.contracts", "shared.notices") == set()


@pytest.mark.parametrize("module", below("shared/runtime"), ids=str)
def test_the_runtime_knows_contracts_but_no_notice_and_no_service(module: Path) -> None:
    assert ours(module) - inside(ours(module), "shared.contracts", "shared.runtime") == set()


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_knows_itself_and_what_is_shared(service: str) -> None:
    known = set().union(*(ours(m) for m in below(f"services/{service}")))
    assert known - inside(known, "shared", f"services.{service}") - {"services"} == set()


def test_only_the_command_line_knows_several_services() -> None:
    knows = {
        str(m): {name.split(".")[1] for name in inside(imports(m), "services") if "." in name} & set(SERVICES)
        for m in MODULES
    }
    several = {m for m, services in knows.items() if len(services) > 1}
    assert {m for m in several if not m.startswith("services/cli/")} == set()
    assert not any(
        "cli" in name for m in MODULES if m.parts[1] != "cli" for name in inside(ours(m), "services")
    )


def test_only_one_module_touches_faststream() -> None:
    assert [str(m) for m in MODULES if "faststream" in foreign(m)] == ["shared/runtime/service.py"]


def test_a_shared_module_has_two_users() -> None:
    """Something moves to `shared` when a second service needs it, not before. The runtime is the machinery
    of all services by construction; what counts there is that something uses the module."""
    users: dict[str, set[str]] = {}
    for module in MODULES:
        for name in inside(imports(module), "shared"):
            users.setdefault(name, set()).add(str(module))
    unused = [
        str(m)
        for m in below("shared")
        if m.name not in ("__init__.py", "env.py") and ".".join(m.with_suffix("").parts) not in users
    ]
    assert unused == []


# --- purity ------------------------------------------------------------------------------------------

IMPURE_MODULES = {"asyncio", "logging", "random", "secrets", "socket", "subprocess", "threading", "time"}
IMPURE_LIBRARIES = {
    "sqlalchemy",
    "sqlmodel",
    "asyncpg",
    "nats",
    "faststream",
    "aiosmtplib",
    "prometheus_client",
}
IMPURE_CALLS = {
    ("datetime", "now"),
    ("datetime", "utcnow"),
    ("datetime", "today"),
    ("date", "today"),
    ("uuid", "uuid1"),
    ("uuid", "uuid4"),
    ("os", "environ"),
    ("os", "getenv"),
    ("time", "time"),
}


def impure(module: Path) -> Iterator[str]:
    for name in sorted(imports(module)):
        if top(name) in IMPURE_MODULES | IMPURE_LIBRARIES or name.startswith("shared.runtime"):
            yield f"imports {name}"
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, (ast.Name, ast.Attribute)):
            owner = node.value.id if isinstance(node.value, ast.Name) else node.value.attr
            if (owner, node.attr) in IMPURE_CALLS:
                yield f"line {node.lineno}: {owner}.{node.attr}"
        elif isinstance(node, ast.Name) and node.id in {"uuid1", "uuid4", "environ", "getenv"}:
            yield f"line {node.lineno}: {node.id}"


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_takes_time_ids_and_chance_as_arguments(module: str) -> None:
    assert list(impure(Path(module))) == []


def test_impurity_would_be_seen(tmp_path: Path) -> None:
    """The negative control."""
    source = (
        "import random\nfrom uuid import uuid4\nimport datetime as d\nfrom datetime import datetime\n"
        "import os\nfrom sqlalchemy import text\n"
        "a = datetime.now()\nb = uuid4()\nc = os.environ['X']\n"
    )
    (tmp_path / "dirty.py").write_text(source)
    assert sorted(impure(tmp_path / "dirty.py")) == [
        "imports random",
        "imports sqlalchemy",
        "line 7: datetime.now",
        "line 8: uuid4",
        "line 9: os.environ",
    ]


# --- events ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("type_", EVENTS, ids=lambda e: e.name)
def test_names_of_an_event_agree(type_: EventType) -> None:
    assert re.fullmatch(r"[a-z]+\.[a-z]+", type_.name)
    entity, fact = type_.name.split(".")
    constant = f"{entity}_{fact}".upper()
    assert getattr(registry, constant) is type_
    assert type_.ce_type == f"cn.gov.gz.sme.{type_.name}.v{type_.major}"
    assert type_.payload.__name__ == entity.capitalize() + fact.capitalize()
    assert type_.envelope.__name__ == type_.payload.__name__ + "V1"
    middle = f"{type_.name}.*" if type_.cls == "evt" else f"*.{type_.name}"
    assert type_.pattern == f"sme.{type_.cls}.v1.{middle}"


def test_every_event_of_the_registry_is_listed_once() -> None:
    declared = [e for e in vars(registry).values() if isinstance(e, EventType)]
    assert sorted(e.name for e in declared) == sorted(e.name for e in EVENTS)
    assert len({e.name for e in EVENTS}) == len(EVENTS)


def said_by(service: str) -> set[str]:
    """The events that the code of a service names, less those that it only compares with what it heard; and what the
    runtime says for it."""
    found: set[str] = {registry.EVENT_KEPT.name}
    for module in below(f"services/{service}"):
        compared = {
            id(operand)
            for node in ast.walk(tree(module))
            if isinstance(node, ast.Compare)
            for operand in (node.left, *node.comparators)
        }
        for node in ast.walk(tree(module)):
            if not isinstance(node, ast.Attribute) or id(node) in compared:
                continue
            if isinstance(node.value, ast.Name) and node.value.id == "registry":
                type_ = getattr(registry, node.attr)
                if isinstance(type_, EventType) and type_.cls != "in":
                    found.add(type_.name)
            elif node.attr == "refuse":
                found.add(registry.EVENT_REJECTED.name)
    return found


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_says_exactly_what_the_registry_lists(service: str) -> None:
    assert said_by(service) == {e.name for e in EVENTS if service in e.says}


def test_everything_heard_has_a_consumer_and_nothing_else_has() -> None:
    heard = {(service, e.name) for e in EVENTS for service in e.hears if service in SERVICES}
    assert {(c.service, e.name) for c in CONSUMERS for e in c.events} == heard
    assert len({c.durable for c in CONSUMERS}) == len(CONSUMERS)


def test_who_says_and_who_hears_exists() -> None:
    outside = {"agency", "city"}
    assert {s for e in EVENTS for s in e.says} == {*SERVICES, *outside}
    for e in EVENTS:
        assert e.says, e.name
        assert set(e.says) <= (outside if e.cls == "in" else set(SERVICES)), e.name
        assert set(e.hears) <= ({*outside, "intake"} if e.cls == "out" else set(SERVICES)), e.name
    # Final: told for the record, and for whoever watches the bus. A new one is a decision.
    final = {
        "mail.sent",
        "mail.failed",
        "mail.unknown",
        "mail.bounced",
        "history.written",
        "catalogue.superseded",
        "title.recorded",  # for what enterprises are entitled to
        "investment.recorded",
    }
    assert {e.name for e in EVENTS if not e.hears} == final


def matches(pattern: str, subject: str) -> bool:
    return re.fullmatch(re.escape(pattern).replace(r"\*", r"[^.]+"), subject) is not None


def test_every_subject_is_in_the_stream_of_its_class_and_in_no_other() -> None:
    for e in EVENTS:
        homes = [s.name for s in STREAMS if any(matches(p, e.subject("440106")) for p in s.subjects or ())]
        assert homes == [STREAM_OF[e.cls]], e.name


# --- lists -------------------------------------------------------------------------------------------


def test_every_setting_has_a_place_in_the_readme_or_a_docstring_near_it() -> None:
    named = set(re.findall(r"\bYIQI_[A-Z_]+\b", (ROOT / "README.md").read_text()))
    assert named - {"YIQI_" + f.upper() for f in Settings.model_fields} == set()


def test_settings_are_read_nowhere_else() -> None:
    """Only the command line sets some, for the processes it starts."""
    others = [
        str(m)
        for m in MODULES
        if "YIQI_" in (ROOT / m).read_text() and m.parts[1] != "cli" and m.name != "settings.py"
    ]
    assert others == []


def test_no_module_is_longer_than_one_can_hold_in_mind() -> None:
    longer = {str(m) for m in MODULES if len((ROOT / m).read_text().splitlines()) > LINES}
    assert longer - LONGER == set(), f"split what has more than {LINES} lines"


def test_every_module_says_what_is_in_it() -> None:
    """First a sentence on what lives there; an empty `__init__` has nothing to say."""
    silent = [
        str(m) for m in MODULES if (ROOT / m).read_text().strip() and ast.get_docstring(tree(m)) is None
    ]
    assert silent == []


NAMES = {
    Counter: r"yiqi(_[a-z]+)+",  # prometheus_client keeps the name without _total
    Histogram: r"yiqi(_[a-z]+)*_(seconds|bytes|messages)",
    Gauge: r"yiqi(_[a-z]+)+(?<!_total)",
}
LABELS = {
    "event",
    "service",
    "code",
    "consumer",
    "letter",
    "state",
    "form",
    "outcome",
    "rule",
    "severity",
    "stage",
    "kind",
    "notice",
    "version",
}


def test_metrics_are_named_by_their_unit_and_labelled_from_closed_sets() -> None:
    found = [m for m in vars(metrics).values() if isinstance(m, (Counter, Histogram, Gauge))]
    assert len(found) > 10
    wrong = [m._name for m in found if not re.fullmatch(NAMES[type(m)], m._name)]
    assert wrong == []
    assert {label for m in found for label in m._labelnames} - LABELS == set()
    source = inspect.getsource(metrics)
    counters = re.findall(r'Counter\(\s*"([^"]+)"', source)
    assert [name for name in counters if not name.endswith("_total")] == []


def test_every_letter_is_complete_and_every_folder_is_a_letter() -> None:
    folder = ROOT / "services/notify/letters"
    found = {p.name: {f.name for f in p.iterdir()} for p in folder.iterdir() if p.name != "_base"}
    assert found == {name: set(PARTS) for name in LETTERS}


def test_every_letter_that_a_notice_names_exists() -> None:
    for compiled in load_all().values():
        notice = compiled.notice
        named = {d.letter for d in notice.deadlines} | {
            o.letter for s in notice.procedure.stages for o in s.outcomes.values()
        }
        assert named - {None} <= set(LETTERS)


def test_migrations_are_numbered_without_a_gap() -> None:
    for service in SERVICES:
        files = sorted((ROOT / "services" / service / "migrations").glob("*.py"))
        assert [f.name[:4] for f in files] == [f"{n:04}" for n in range(1, len(files) + 1)], service
        for before, file in zip([None, *files], files, strict=False):
            source = file.read_text()
            assert f'revision = "{file.name[:4]}"' in source, file
            down = f'"{before.name[:4]}"' if before else "None"
            assert f"down_revision = {down}" in source, file
