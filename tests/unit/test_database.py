"""Named parameters become positional ones, and nothing else in a statement changes."""

import pytest

from shared.runtime.database import _positional


@pytest.mark.parametrize(
    ("sql", "positional", "names", "returns"),
    [
        ("select 1 where a = :a and b = :b", "select 1 where a = $1 and b = $2", ("a", "b"), True),
        ("delete from t where sha256 = :sha256", "delete from t where sha256 = $1", ("sha256",), False),
        ("select :a::text, ':x' || :a", "select $1::text, '$2' || $1", ("a", "x"), True),
        ("update t set n = (select 1)", "update t set n = (select 1)", (), False),
        ("update t set n = :n returning n", "update t set n = $1 returning n", ("n",), True),
        ("insert into t select * from u on conflict do nothing", None, (), False),
        ("  with a as (select 1) select * from a", None, (), True),
    ],
)
def test_named_parameters(sql: str, positional: str | None, names: tuple[str, ...], returns: bool) -> None:
    assert _positional(sql) == (positional or sql, names, returns)
