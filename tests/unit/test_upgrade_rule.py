"""What a release may change while the one before still runs (`deploy/README.md`): migrations only add, events of the
release before are still understood, consumers hear no less.

That the two really run together is in `tests/chaos/test_upgrade.py`.
"""

import ast
import json

import pytest

from shared.contracts.registry import EVENTS
from shared.runtime import SERVICES
from tests.chaos import previous

TAKES_AWAY = {
    "drop_table", "drop_column", "drop_constraint", "rename_table", "alter_column", "create_unique_constraint",
    "create_check_constraint", "create_foreign_key", "create_exclude_constraint",
}  # fmt: skip
"""Of alembic: what an old process may stumble over. What must be done nevertheless is done one release later, when no
process needs it any more, and says so: `CONTRACTS = "why nobody needs it"` in the migration."""

SQL_TAKES_AWAY = ("drop ", "rename ", "not null", "truncate", "delete from", "set key")

needs_history = pytest.mark.skipif(previous.absent() is not None, reason=str(previous.absent()))


def wrong(source: str) -> list[str]:
    """What a migration does that processes of the release before may not survive."""
    tree = ast.parse(source)
    if any(isinstance(n, ast.Assign) and getattr(n.targets[0], "id", "") == "CONTRACTS" for n in tree.body):
        return []
    (upgrade,) = (n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "upgrade")
    found = []
    for node in ast.walk(upgrade):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        name = node.func.attr
        if name in TAKES_AWAY:
            found.append(name)
        if name == "execute":
            said = " ".join(
                c.value for c in ast.walk(node) if isinstance(c, ast.Constant) and isinstance(c.value, str)
            )
            found += [word.strip() for word in SQL_TAKES_AWAY if word in said.lower()]
        if name == "add_column" and _wants(ast.unparse(node)):
            found.append(
                "add_column: an old process writes rows without it, so it needs a server_default or null"
            )
    return found


def _wants(call: str) -> bool:
    return "nullable=False" in call and "server_default" not in call


def new_migrations() -> list[str]:
    known = {path for service in SERVICES for path in previous.files(f"services/{service}/migrations")}
    there = {
        str(path.relative_to(previous.ROOT))
        for service in SERVICES
        for path in (previous.ROOT / "services" / service / "migrations").glob("[0-9]*.py")
    }
    return sorted(there - known)


@needs_history
def test_migrations_since_the_release_before_only_add() -> None:
    assert {m: found for m in new_migrations() if (found := wrong((previous.ROOT / m).read_text()))} == {}


@needs_history
def test_migrations_of_the_release_before_are_as_they_were() -> None:
    for service in SERVICES:
        for path in previous.files(f"services/{service}/migrations"):
            assert (previous.ROOT / path).read_text() == previous.read(path), path


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ('op.create_table("x", sa.Column("a", sa.Uuid(), nullable=False))', []),
        ('op.add_column("x", sa.Column("a", sa.Integer(), server_default="1", nullable=False))', []),
        ('op.add_column("x", sa.Column("a", sa.Integer(), nullable=True))', []),
        (
            'op.add_column("x", sa.Column("a", sa.Integer(), nullable=False))',
            ["add_column: an old process writes rows without it, so it needs a server_default or null"],
        ),
        ('op.drop_table("correction", schema="notify")', ["drop_table"]),
        ('op.execute("alter table notify.mail rename column a to b")', ["rename"]),
        ('op.execute("update notify.mail set key = key || 1")', ["set key"]),
    ],
)
def test_what_an_old_process_would_stumble_over_is_found(step: str, said: list[str]) -> None:
    assert wrong(f"def upgrade():\n    {step}\n") == said
    assert wrong(f'CONTRACTS = "nobody reads it"\ndef upgrade():\n    {step}\n') == []


def test_the_migration_for_which_notify_had_to_be_stopped_once_is_found() -> None:
    """0003 of notify dropped a table, and wrote keys anew: old processes beside it would have mailed twice."""
    source = (previous.ROOT / "services/notify/migrations/0003_keep_what_every_case_waits_for.py").read_text()
    assert set(wrong(source)) >= {"drop_table", "set key"}


BEFORE = [
    p
    for folder in ("shared/contracts/published", "tests/examples")  # where that release may have them
    for p in previous.files(folder)
    if p.startswith("tests/examples/cn.gov") or "/examples/" in p.removeprefix("tests/")
]


@pytest.mark.parametrize("path", BEFORE)
def test_what_the_release_before_says_is_understood(path: str) -> None:
    """Its golden examples, word for word."""
    shown = previous.read(path)
    (event,) = (e for e in EVENTS if e.ce_type == json.loads(shown)["type"])
    event.envelope.model_validate_json(shown, strict=True)


@needs_history
def test_there_are_events_of_the_release_before() -> None:
    assert len(BEFORE) > 20
