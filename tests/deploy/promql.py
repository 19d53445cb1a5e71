"""What an expression of Prometheus asks for: metrics, and the labels by which it chooses and joins them.

Which of them exist is not here: that is `test_watching.py`.
"""

from typing import Any

import promql_parser

ADDED = {"instance", "job", "le", "__name__"}
"""By Prometheus, and by histograms."""

STANDARD = {"process_start_time_seconds", "process_resident_memory_bytes", "process_cpu_seconds_total"}


def asked(expression: str) -> dict[str, set[str]]:
    """The labels by metric. Labels of a `by` or `on` belong to every metric below it that has no aggregation of its
    own in between; told once for each, which is all that a comparison needs."""
    found: dict[str, set[str]] = {}

    def look(node: Any) -> None:
        if isinstance(node, promql_parser.MatrixSelector):
            node = node.vector_selector
        if isinstance(node, promql_parser.VectorSelector):
            found.setdefault(str(node.name), set()).update(m.name for m in node.matchers.matchers)

    tree = promql_parser.parse(expression.replace("$__rate_interval", "5m"))
    promql_parser.walk(tree, look)
    return found


def grouped(expression: str) -> set[str]:
    """The labels that it groups by, joins on, or takes over."""
    found: set[str] = set()

    def look(node: Any) -> None:
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            found.update(node.modifier.labels)
        if isinstance(node, promql_parser.BinaryExpr) and node.modifier is not None:
            if node.modifier.matching is not None:
                found.update(node.modifier.matching.labels)
            found.update(node.modifier.group_labels or [])

    promql_parser.walk(promql_parser.parse(expression.replace("$__rate_interval", "5m")), look)
    return found


def family(name: str) -> str:
    """The metric of a sample: a histogram has three."""
    for suffix in ("_bucket", "_count", "_sum", "_total"):
        name = name.removesuffix(suffix)
    return name
