"""What operators watch: every alert is tested and has a page, everything asked for exists in the running services, and
what Prometheus is told is what has happened. Each check also sees a bad sample."""

import asyncio
import json
import re
import shlex
import shutil
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import typer.main
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families
from ruamel.yaml import YAML

from services.cli import app
from services.cli.local import Local
from shared.contracts import registry
from shared.contracts.case import DecisionMade
from shared.notices.directory import unlisted
from shared.runtime import SERVICES, metrics
from shared.runtime.embedded import eventually
from shared.runtime.streams import IN
from tests.deploy.promql import ADDED, STANDARD, asked, family, grouped
from tests.items import LECTURE

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
RULES, TESTS = DEPLOY / "prometheus/rules.yaml", DEPLOY / "prometheus/tests.yaml"
RUNBOOKS = DEPLOY / "runbooks"
DASHBOARDS = sorted((DEPLOY / "grafana").glob("*.json"))
GROUPS = YAML(typ="safe").load(RULES)["groups"]
ALL = [rule for group in GROUPS for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in ALL if "alert" in rule}
RECORDED = {rule["record"] for rule in ALL if "record" in rule}
WHO = unlisted("观察测试机构").code
GIVEN = "0af7651916cd43dd8448eb211c80319c"


def panels(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text())["panels"]
    return found


def expressions() -> dict[str, str]:
    """Everything that is asked of Prometheus, by where."""
    rules = {f"rule {r.get('alert') or r['record']}": r["expr"] for r in ALL}
    drawn = {
        f"{path.name}: {panel['title']} {target['refId']}": target["expr"]
        for path in DASHBOARDS
        for panel in panels(path)
        for target in panel.get("targets", ())
    }
    return {**rules, **drawn}


ASKED = expressions()
assert len(ASKED) > 80

# --- alerts ------------------------------------------------------------------------------------------


def test_every_alert_has_a_page_and_every_page_an_alert() -> None:
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == set(ALERTS)
    for name, rule in ALERTS.items():
        assert rule["annotations"]["runbook_url"].endswith(f"runbooks/{name}.md")
        assert rule["labels"].keys() == {"severity"}
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        page = (RUNBOOKS / f"{name}.md").read_text()
        heads = re.findall(r"^## (.+)$", page, re.MULTILINE)
        assert heads == ["意味着什么", "先看什么", "怎么办", "叫谁", "In English"], name
        assert f"`{rule['labels']['severity']}`" in page
        assert ("立即叫醒" in page.split("## 叫谁")[1].split("。")[0]) == (
            rule["labels"]["severity"] == "critical"
        )


def commands(page: str) -> list[list[str]]:
    blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    inline = re.findall(r"`(yiqi [^`]+)`", page)
    lines = [line for block in blocks for line in block.splitlines()] + inline
    return [shlex.split(line)[1:] for line in lines if line.startswith("yiqi ")]


def unknown(words: list[str]) -> str | None:
    """What of a command line does not exist."""
    at: Any = typer.main.get_command(app)
    rest = list(words)
    while hasattr(at, "commands") and rest:
        name = rest.pop(0)
        if name not in at.commands:
            return name
        at = at.commands[name]
    options = {opt for p in at.params for opt in (*p.opts, *p.secondary_opts) if opt.startswith("--")}
    return next((word for word in rest if word.startswith("--") and word not in options), None)


def test_every_command_of_a_page_exists() -> None:
    found = {path.stem: commands(path.read_text()) for path in RUNBOOKS.glob("*.md")}
    assert sum(map(len, found.values())) > 30
    wrong = [(page, words, bad) for page, all_ in found.items() for words in all_ if (bad := unknown(words))]
    assert wrong == []


@pytest.mark.parametrize("line", ["yiqi dead lsit", "yiqi mail list --status failed", "yiqi medn"])
def test_control_a_command_that_does_not_exist_is_seen(line: str) -> None:
    assert [unknown(words) for words in commands(f"```sh\n{line}\n```")] != [None]


def phrases(page: str) -> set[str]:
    """What a page says that a log says."""
    return {
        p
        for p in re.findall(r"`([a-z]+(?: [a-z]+)+)`", page)
        if p.split()[0] not in ("yiqi", "kubectl", "curl")
    }


def test_what_a_page_quotes_from_a_log_is_what_the_services_write() -> None:
    said = "\n".join(p.read_text() for top in ("shared", "services") for p in (ROOT / top).rglob("*.py"))
    quoted = {p for path in RUNBOOKS.glob("*.md") for p in phrases(path.read_text())}
    assert len(quoted) > 5
    assert {p for p in quoted if p not in said} == set()
    assert phrases("日志中 `nobody says this`") == {"nobody says this"}


def test_a_page_links_to_pages_that_exist() -> None:
    linked = {
        link for path in RUNBOOKS.glob("*.md") for link in re.findall(r"\]\(([^)#]+)", path.read_text())
    }
    assert {link for link in linked if not (RUNBOOKS / link).exists()} == set()


# --- promtool ----------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def promtool() -> str:
    fetched = ROOT / ".tools/prometheus/usr/bin/promtool"
    found = shutil.which("promtool") or (str(fetched) if fetched.exists() else None)
    if found is None:
        pytest.skip("no promtool: `.ci/run` fetches it from Debian's package prometheus")
    return found


def run(*words: str | Path, text: str | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(words, input=text, capture_output=True, text=True, timeout=60)


def test_the_rules_are_sound_and_their_tests_pass(promtool: str) -> None:
    assert run(promtool, "check", "rules", RULES).returncode == 0
    done = run(promtool, "test", "rules", TESTS)
    assert done.returncode == 0, done.stdout + done.stderr


def test_control_rules_with_a_fault_are_seen(promtool: str, tmp_path: Path) -> None:
    bad = tmp_path / "rules.yaml"
    bad.write_text(RULES.read_text().replace("> 1000", "> 1000)", 1))
    assert run(promtool, "check", "rules", bad).returncode != 0


def seen() -> dict[str, set[bool]]:
    """By alert, whether its tests have seen it fire, and be silent."""
    found: dict[str, set[bool]] = {}
    for group in YAML(typ="safe").load(TESTS)["tests"]:
        for test in group["alert_rule_test"]:
            found.setdefault(test["alertname"], set()).add(bool(test["exp_alerts"]))
    return found


def test_every_alert_is_tested_to_fire_and_to_be_silent() -> None:
    assert seen() == {name: {True, False} for name in ALERTS}


@pytest.mark.parametrize(
    ("old", "new"), [("for: 10m", "for: 30m"), ("> 1000", "> 0"), ("max by (consumer)", "sum by (consumer)")]
)
def test_control_an_alert_that_is_changed_fails_its_tests(
    promtool: str, tmp_path: Path, old: str, new: str
) -> None:
    """A longer wait does not fire in time; a lower bound, and replicas that are added up, say something else."""
    yaml = YAML()
    tests = YAML(typ="safe").load(TESTS)
    tests["tests"] = [t for t in tests["tests"] if t["alert_rule_test"][0]["alertname"] == "YiqiLag"]
    tests["tests"][1]["input_series"][0]["values"] = "5x30"
    rules: dict[str, Any] = {"groups": [{"name": "one", "rules": [ALERTS["YiqiLag"]]}]}
    for name, document in (("tests.yaml", tests), ("rules.yaml", rules)):
        with (tmp_path / name).open("w") as file:
            yaml.dump(document, file)
    assert run(promtool, "test", "rules", tmp_path / "tests.yaml").returncode == 0
    changed = (tmp_path / "rules.yaml").read_text().replace(old, new)
    (tmp_path / "rules.yaml").write_text(changed)
    assert run(promtool, "test", "rules", tmp_path / "tests.yaml").returncode == 1


# --- what is asked for exists ------------------------------------------------------------------------


def declared() -> dict[str, set[str]]:
    """Labels by metric, as the code declares them."""
    ours = [m for m in vars(metrics).values() if hasattr(m, "_labelnames")]
    return {m._name: set(m._labelnames) for m in ours}


def strange(expression: str) -> set[str]:
    """What it asks for and nobody says: metrics, their labels, labels to group by."""
    known, found, all_ = declared(), asked(expression), set(ADDED)
    wrong = set()
    for name, labels in found.items():
        if name in RECORDED or name in STANDARD:
            continue
        if family(name) not in known:
            wrong.add(name)
            continue
        wrong |= {f"{name}.{label}" for label in labels - known[family(name)] - ADDED}
        all_ |= known[family(name)]
    return wrong | (grouped(expression) - all_)


@pytest.mark.parametrize("where", ASKED)
def test_what_is_asked_for_is_declared(where: str) -> None:
    assert strange(ASKED[where]) == set()


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("rate(yiqi_events_handled_totl[5m])", {"yiqi_events_handled_totl"}),
        ('yiqi_ledger_mails{status="held"}', {"yiqi_ledger_mails.status"}),
        ("sum by (stat) (yiqi_ledger_mails)", {"stat"}),
        ("sum by (le) (rate(yiqi_receipt_seconds_bucket[5m]))", set()),
    ],
)
def test_control_what_is_asked_for_and_not_declared_is_seen(expression: str, found: set[str]) -> None:
    assert strange(expression) == found


def test_an_objective_is_a_bound_of_its_histogram() -> None:
    for expression in ASKED.values():
        for name, bound in re.findall(r'(yiqi_\w+)_bucket\{[^}]*le="([^"]+)"', expression):
            (histogram,) = (m for m in vars(metrics).values() if getattr(m, "_name", "") == name)
            assert float(bound) in histogram._upper_bounds
            assert bound == str(float(bound))  # as it is written on /metrics


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda p: p.stem)
def test_a_dashboard_has_its_panels_side_by_side(path: Path) -> None:
    told = json.loads(path.read_text())
    assert told["uid"] == f"yiqi-{path.stem}"
    assert [v["type"] for v in told["templating"]["list"]] == ["datasource"]
    found = panels(path)
    assert len({p["id"] for p in found}) == len(found)
    taken: set[tuple[int, int]] = set()
    for panel in found:
        box = panel["gridPos"]
        assert box["x"] + box["w"] <= 24
        cells = {(box["x"] + i, box["y"] + j) for i in range(box["w"]) for j in range(box["h"])}
        assert taken & cells == set(), panel["title"]
        taken |= cells
        assert panel["type"] == "row" or panel["targets"]
        assert all(t["datasource"]["uid"] == "${datasource}" for t in panel.get("targets", ()))


# --- the running services ----------------------------------------------------------------------------


class Collector(HTTPServer):
    """What OpenTelemetry would export to."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.spans: list[Any] = []

    def started(self) -> "Collector":
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self


class Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        told = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
        for resource in told.resource_spans:
            (service,) = (
                a.value.string_value for a in resource.resource.attributes if a.key == "service.name"
            )
            for scope in resource.scope_spans:
                self.server.spans += [(service, span) for span in scope.spans]
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as here:
        yield here.started()
        here.shutdown()


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Local]:
    here = Local(
        tmp_path_factory.mktemp("watching"),
        sync_always=False,
        extra={
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}",
            "OTEL_BSP_SCHEDULE_DELAY": "200",
            "NO_PROXY": "127.0.0.1",
            "YIQI_WATCHDOG": "1",
        },
    )
    here.clock.write_text(str((datetime(2025, 3, 3, 2, 0, tzinfo=UTC) - datetime.now(UTC)).total_seconds()))
    try:
        here.start(90)
        asyncio.run(file(here))
        yield here
    finally:
        here.stop()


async def file(here: Local) -> None:
    """One filing that is in order, and one message that is nothing."""
    event = {
        "specversion": "1.0",
        "id": "watched-1",
        "source": f"urn:cn:gov:gz:{WHO}:oa",
        "type": registry.SUBMISSION_FILED.ce_type,
        "time": "2025-03-03T09:00:00+08:00",
        "data": {
            "notice": "gz-collection-2025q1",
            "form": "F3",
            "filer": {"code": WHO, "kind": "K6", "name": "观察测试机构", "email": "filer@yiqi.example"},
            "values": LECTURE,
        },
    }
    client = await here.connect(WHO)
    js = client.jetstream(timeout=5)
    subject = registry.SUBMISSION_FILED.subject(WHO)
    body = json.dumps(event, ensure_ascii=False).encode()
    parent = f"00-{GIVEN}-b7ad6b7169203331-01"
    await js.publish(subject, body, stream=IN, headers={"traceparent": parent})
    await js.publish(subject, b"{", stream=IN)
    await client.close()

    def receipt() -> float | None:
        return sample(here, "notify", "yiqi_receipt_seconds_count", letter="accepted")

    async def sent() -> bool:
        return (receipt() or 0) > 0

    await eventually(sent, 60, "the receipt")


def sample(here: Local, process: str, name: str, **labels: str) -> float | None:
    for one in text_string_to_metric_families(here.page(process, "metrics")):
        for found in one.samples:
            if found.name == name and labels.items() <= found.labels.items():
                return float(found.value)
    return None


def live(here: Local) -> set[str]:
    return {
        one.name
        for service in SERVICES
        for one in text_string_to_metric_families(here.page(service, "metrics"))
    }


def test_everything_that_is_asked_for_exists_in_the_running_services(local: Local) -> None:
    there = live(local) | RECORDED
    wanted = {family(name) for expression in ASKED.values() for name in asked(expression)}
    there |= {family(name) for name in there}
    assert {family(name) for name in wanted} - there == set()
    assert "yiqi_events_handled" in there
    assert "yiqi_no_such_thing" not in there


def test_what_is_exported_is_as_prometheus_wants_it(local: Local, promtool: str) -> None:
    for service in SERVICES:
        done = run(promtool, "check", "metrics", text=local.page(service, "metrics"))
        assert (done.returncode, done.stdout + done.stderr) == (0, ""), service
    bad = run(promtool, "check", "metrics", text="# HELP x_count y\n# TYPE x_count counter\nx_count 1\n")
    assert bad.returncode != 0


def test_the_times_are_those_from_arrival_to_answer_and_to_mail(local: Local) -> None:
    lag = {"consumer": "intake-in", "event": "submission.filed"}
    assert sample(local, "intake", "yiqi_event_lag_seconds_count", **lag) == 1
    took = sample(local, "intake", "yiqi_event_lag_seconds_sum", **lag)
    whole = sample(local, "notify", "yiqi_receipt_seconds_sum", letter="accepted")
    opened = sample(local, "notify", "yiqi_event_lag_seconds_sum", consumer="notify-evt", event="case.opened")
    assert took is not None
    assert whole is not None
    assert opened is not None
    assert took > 0
    # The receipt's time has everything in it that happened on the way.
    assert took + opened < whole < 60


def test_the_tables_are_read_by_whom_they_belong_to(local: Local) -> None:
    for service in SERVICES:
        assert sample(local, service, "yiqi_ledger_read_timestamp_seconds", service=service)
        assert sample(local, service, "yiqi_build_info", service=service) == 1
        assert sample(local, service, "yiqi_outbox_messages", service=service) is not None


def told(collector: Collector, trace: str) -> list[str]:
    """Which spans a trace has, by service, in the order of their names."""
    return sorted(
        f"{service.removeprefix('yiqi-')}: {s.name}"
        for service, s in collector.spans
        if s.trace_id.hex() == trace
    )


def the_case(local: Local) -> str:
    return local.postgres.sql('select "case" from review."case" where form = \'F3\'', "yiqi").strip()


def test_from_the_filing_to_the_mail_there_are_two_traces(local: Local, collector: Collector) -> None:
    """The publisher's, down to our answer, and the case's, which is linked to it."""
    case = the_case(local).replace("-", "")

    async def complete() -> bool:
        return "notify: say mail.sent" in told(collector, case)

    asyncio.run(eventually(complete, 15, "the last span"))
    assert told(collector, GIVEN) == ["intake: process submission.filed", "intake: say event.accepted"]
    assert told(collector, case) == [
        "intake: say submission.accepted",
        "notify: process case.opened",
        "notify: say mail.sent",
        "notify: send mail",
        "review: process submission.accepted",
        "review: say case.opened",
    ]
    spans = {s.name: s for _, s in collector.spans if s.trace_id.hex() in (case, GIVEN)}
    parents = [
        ("process submission.filed", "b7ad6b7169203331"),
        ("say event.accepted", spans["process submission.filed"].span_id.hex()),
        ("process submission.accepted", spans["say submission.accepted"].span_id.hex()),
        ("say case.opened", spans["process submission.accepted"].span_id.hex()),
        ("process case.opened", spans["say case.opened"].span_id.hex()),
        ("say submission.accepted", ""),
    ]
    assert [(name, spans[name].parent_span_id.hex()) for name, _ in parents] == parents
    assert [link.trace_id.hex() for link in spans["say submission.accepted"].links] == [GIVEN]


async def decide(local: Local, case: str, *outcomes: str) -> None:
    client = await local.connect("440100")
    for n, outcome in enumerate(outcomes):
        data = DecisionMade(case=UUID(case), outcome=outcome, reason="符合")
        event = registry.DECISION_MADE.event(
            data, case, outcome, at=datetime(2025, 3, 4, n, tzinfo=UTC), source="urn:cn:gov:gz:440100:oa"
        )
        await client.jetstream(timeout=5).publish(
            registry.DECISION_MADE.subject("440100"), event.wire(), stream=IN
        )
    await client.close()


def test_what_is_decided_and_published_later_is_in_the_trace_of_the_case(
    local: Local, collector: Collector
) -> None:
    """Whoever decides, whenever: without a column, because the trace of a case is its id."""
    case = the_case(local)
    asyncio.run(decide(local, case, "accept", "select", "publish"))
    trace = case.replace("-", "")

    async def complete() -> bool:
        return {"export: say catalogue.published", "notify: process case.published"} <= {
            *told(collector, trace)
        } and told(collector, trace).count("notify: say mail.sent") >= 2

    asyncio.run(eventually(complete, 30, "the catalogue, in the trace of the case"))
    found = told(collector, trace)
    assert {
        "review: say case.advanced",
        "review: say case.published",
        "export: process case.published",
    } <= set(found)
    # What decided it is in a trace of its publisher's, to which these are linked.
    decided = {s.trace_id.hex() for _, s in collector.spans if s.name == "process decision.made"}
    assert len(decided) == 3
    linked = {
        link.trace_id.hex()
        for _, s in collector.spans
        if s.name in ("say case.advanced", "say case.published") and s.trace_id.hex() == trace
        for link in s.links
    }
    assert linked
    assert trace not in decided


def test_nothing_that_is_exported_names_the_filer(local: Local, collector: Collector) -> None:
    pages = "".join(local.page(service, "metrics") for service in SERVICES)
    exported = "".join(str(span) for _, span in collector.spans)
    assert "watched-1" in exported  # the id that the publisher chose
    for text in (pages, exported):
        assert re.findall("filer@|83726619|观察测试机构|张三", text) == []
