"""The bench of the clock sees a plan that reads a whole table, and only that."""

import pytest

from tests.bench.sweep import sequential, shortened

GOOD = """\
Sort  (cost=9.1..9.2 rows=1 width=9) (actual time=0.03..0.03 rows=0.00 loops=1)
  Buffers: shared hit=4
  ->  Index Scan using review_case_wakes on "case"  (cost=0.2..8 rows=1 width=24) (actual time=0.006..0.006 rows=0.00 loops=1)
        Buffers: shared hit=2
        Filter: ((notice)::text = ANY ('{n}'::text[]))
        Rows Removed by Filter: 3
  ->  CTE Scan on ripe  (cost=0.1..0.2 rows=1 width=16) (never executed)
Execution Time: 0.077 ms""".splitlines()


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ('        ->  Seq Scan on "case" c  (cost=0.00..1.0 rows=1 width=9)', ["case"]),
        ('  ->  Parallel Seq Scan on "case"  (cost=0.00..1.0 rows=1 width=9)', ["case"]),
        ("Seq Scan on review.duty d  (cost=0.00..1.0 rows=1 width=9)", ["duty"]),
        ('Seq Scan on review."case" c  (cost=0.00..1.0 rows=1 width=9)', ["case"]),
        ("->  Seq Scan on history  (cost=0.00..1.0 rows=1 width=9)", ["history"]),
        ("->  Seq Scan on alembic_version  (cost=0.00..1.0 rows=1 width=9)", []),
        ('->  Bitmap Heap Scan on "case"  (cost=0.00..1.0 rows=1 width=9)', []),
    ],
)
def test_a_plan_that_reads_a_whole_table_that_grows_is_seen(line: str, found: list[str]) -> None:
    assert sequential([*GOOD, line]) == found


def test_a_plan_is_shown_by_what_it_reads() -> None:
    assert shortened(GOOD) == [
        "Buffers: shared hit=4",
        '->  Index Scan using review_case_wakes on "case"  (actual time=0.006..0.006 rows=0.00 loops=1)',
        "Rows Removed by Filter: 3",
        "->  CTE Scan on ripe  (never executed)",
        "Execution Time: 0.077 ms",
    ]
