"""The demo as a newcomer runs it, the same while its services are being killed, and a control that must fail.

Run as a program, this file plays the demo and kills services meanwhile.
"""

import email
import email.policy
import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from python_calamine import CalamineWorkbook

from services.cli.demo import faults, rows, run
from services.cli.demo.look import twice
from services.cli.demo.rows import Event, Package
from services.export import bundle
from services.export.table import cell_text
from shared.notices.load import load_all
from shared.notices.values import contact, same
from shared.runtime.settings import Settings

if TYPE_CHECKING:
    from services.cli.local import Local

Report = dict[str, Any]

ROOT = Path(__file__).parents[2]
SABOTAGE = Path(__file__).parent / "sabotage"
LONGEST = 500
NOTICE = load_all()[rows.NOTICE].notice

pytestmark = pytest.mark.timeout(3 * LONGEST)


@dataclass(frozen=True)
class Played:
    """What one run left behind."""

    out: Path
    status: int
    said: str

    @property
    def report(self) -> Report:
        report: Report = json.loads((self.out / "report.json").read_text())
        return report

    @property
    def inbox(self) -> list[str]:
        """Message-IDs of the mails on disk, read here and not by the demo."""
        return _ids(self.out / "mail")


def _ids(folder: Path) -> list[str]:
    messages = (email.message_from_bytes(p.read_bytes()) for p in sorted(folder.glob("*.eml")))
    return [str(m["Message-ID"]).strip() for m in messages]


def play(out: Path, *command: str, sabotage: Sequence[str] = ()) -> Played:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("YIQI_")}
    if sabotage:
        environment |= {"PYTHONPATH": str(SABOTAGE), "SABOTAGE": ",".join(sabotage)}
    done = subprocess.run(
        [*command, str(out)], env=environment, capture_output=True, text=True, timeout=LONGEST, cwd=ROOT
    )
    return Played(out, done.returncode, done.stdout + done.stderr)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """Once, by whichever worker of pytest-xdist comes first; nobody changes it."""
    here = tmp_path_factory.getbasetemp()
    out = (here.parent if "PYTEST_XDIST_WORKER" in os.environ else here) / "demo"
    with out.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = out / "played.json"
        if not done.exists():
            first = play(out, str(Path(sys.executable).parent / "yiqi"), "demo", "--out")
            done.write_text(json.dumps([first.status, first.said]))
        status, said = json.loads(done.read_text())
    return Played(out, status, said)


def killed(out: Path, names: str, *sabotage: str) -> Played:
    """Play it while services are killed; `dawdle` in both runs, so that they differ in one thing only."""
    return play(out, sys.executable, __file__, "1", names, sabotage=("hasten", "dawdle", *sabotage))


@pytest.fixture(scope="module")
def under_fire(tmp_path_factory: pytest.TempPathFactory) -> Played:
    return killed(tmp_path_factory.mktemp("killed"), "intake,review,notify,export,notify")


# --- the demo ----------------------------------------------------------------------------------------


def test_the_demo_ends_well(played: Played) -> None:
    assert played.status == 0, played.said
    assert "全部相符" in played.said
    assert played.report["wrong"] == []


def test_it_covers_every_annex_kind_and_several_districts(played: Played) -> None:
    report = played.report
    assert report["rows"]["filed"] >= 60
    # The cards are filed in tests/live/test_card_filing.py; the demo plays the lists.
    assert report["forms"] == sorted(form.id for form in NOTICE.forms if form.columns)
    assert report["kinds"] == ["K1", "K2", "K3", "K4", "K5", "K6"]
    assert len(report["districts"]) >= 5
    assert len({f["rule"] for f in report["findings"] if f["severity"] != "info"}) >= 12
    assert {"published", "not_selected", "rejected", "withdrawn"} == set(report["cases"])
    assert set(report["letters"]) >= {"judged", "accepted", "refused", "returned", "selected", "published"}


def test_the_figures_that_are_told_are_those_of_the_files(played: Played) -> None:
    report = played.report
    inbox = played.inbox
    assert sorted(inbox) == report["delivered"] == sorted({m["id"] for m in report["mails"]})
    assert len(inbox) == len(set(inbox))
    found = {p.name: sha256(p.read_bytes()).hexdigest() for p in (played.out / "catalogues").iterdir()}
    assert found == {c["file"]: c["sha256"] for c in report["catalogues"]}
    assert {p.name for p in played.out.iterdir()} == {
        "agencies.yaml",
        "catalogues",
        "filed",
        "mail",
        "marked",
        "played.json",
        "pictures",
        "report.json",
        "sealed",
    }


def test_the_round_and_a_case_are_sealed_at_the_end(played: Played) -> None:
    (round_, case) = sorted((played.out / "sealed").glob("*.zip"), reverse=True)
    found = bundle.unpack(round_.read_bytes())
    told = bundle.opened(found)
    catalogues = {c["file"]: c["sha256"] for c in played.report["catalogues"]}
    assert catalogues.items() <= {part.name: part.sha256 for part in told.files}.items()
    files = bundle.unpack(case.read_bytes())
    assert bundle.opened(files).kind == "dossier"
    assert {"申请表-广州市中小企业服务站申请表.docx", "申请表-广州市中小企业服务站申请表.pdf"} <= files.keys()


def test_the_pictures_show_the_round_as_it_ended(played: Played) -> None:
    assert {p.suffix for p in (played.out / "pictures").iterdir()} == {".svg", ".png", ".html"}
    drawn = (played.out / "pictures" / "round.svg").read_text(encoding="utf-8")
    told = played.report
    assert f">受理　{sum(told['cases'].values())}<" in drawn
    assert f">已发布　{told['cases']['published']}<" in drawn
    # Of workbooks: what is refused of an event is answered and not kept.
    packages = [one for one in (*rows.FILED, rows.CORRECTION) if isinstance(one, Package)]
    assert f">未受理{sum(p.rows - p.takes for p in packages)}<" in drawn


def test_no_mail_could_reach_anybody(played: Played) -> None:
    for path in (played.out / "mail").glob("*.eml"):
        message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
        assert [a.domain for a in message["To"].addresses] == ["yiqi-demo.test"]


def filed_rows() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(form, cells as typed) of every row, later filings last."""
    for one in (*rows.FILED, rows.CORRECTION):
        if isinstance(one, Event):
            yield one.form, one.values
            continue
        for book in one.books:
            for table in book.tables:
                keys = [c.key for c in NOTICE.by_form[table.form].columns]
                yield from ((table.form, dict(zip(keys, cells, strict=True))) for cells in table.rows)


def test_the_catalogues_show_what_was_filed_and_chosen(played: Played) -> None:
    """Told from what was typed into the workbooks alone, by another library than the one that wrote them."""
    out = {
        *rows.DECLINED,
        rows.FALSE_PROMISE,
        rows.OVER_QUOTA,
        rows.WITHDRAWN,
        rows.NOT_RECOMMENDED,
        "高校毕业生走进中小企业",  # a date that does not exist, never corrected
        "示例能耗管家",  # a cell left empty, never corrected
        "示例税融贷",  # published the quarter before
        "企业家公开课",  # on the wrong annex
    }
    wanted: dict[str, dict[str, Mapping[str, Any]]] = {}
    for form, cells in filed_rows():
        name = str(cells[NOTICE.by_form[form].name[0]])
        if name not in out:
            wanted.setdefault(form, {})[name] = cells
    venue = {"首贷户培育走进专业市场": "荔湾区示例轻纺市场三楼"}  # corrected in the marked workbook
    for made in played.report["catalogues"]:
        form_ = NOTICE.by_form[made["form"]]
        cells_ = CalamineWorkbook.from_path(played.out / "catalogues" / made["file"]).get_sheet_by_index(0)
        table = cells_.to_python()
        title = [str(cell).replace("\n", "") for row in table[:3] for cell in row if cell][1:]
        assert title == [NOTICE.form_title(form_)]
        head = next(n for n, row in enumerate(table) if row[0] == "序号")
        assert table[head] == ["序号", *(c.header for c in form_.columns)]
        shown = [row for row in table[head + 1 :] if isinstance(row[0], float)]
        assert [row[0] for row in shown] == [float(n) for n in range(1, len(shown) + 1)]
        names = [c.key for c in form_.columns].index(form_.name[0]) + 1
        assert {str(row[names]) for row in shown} == set(wanted[form_.id])
        for row in shown:
            typed = wanted[form_.id][str(row[names])]
            for column, cell in zip(form_.columns, row[1:], strict=True):
                if column.type == "text":
                    alone = venue.get(str(row[names])) if column.key == "venue" else None
                    assert cell == (alone or str(typed[column.key]))
                elif column.type == "contact":
                    assert cell == cell_text(column, contact(str(typed[column.key])).model_dump())
                elif column.type == "choice" and column.key != form_.group:
                    assert same(str(typed[column.key])).strip("“”")[:4] in same(str(cell))


# --- the same while services die -----------------------------------------------------------------------


def differences(undisturbed: Played, other: Played) -> list[str]:
    """What a run shows that an undisturbed one does not, and mails that came twice."""
    found = []
    one, two = undisturbed.report, other.report
    if one["catalogues"] != two["catalogues"]:
        found.append("catalogues")
    found += [key for key in ("cases", "rows", "findings", "lives") if one[key] != two[key]]

    def owed(report: Report) -> set[tuple[str, ...]]:
        return {(m["id"], m["letter"], m["to_code"], str(m["case"])) for m in report["mails"]}

    if owed(one) != owed(two):
        sys.stderr.write(f"{sorted(owed(one) ^ owed(two))}\n")
        found.append("mails")
    inbox = other.inbox
    if len(inbox) != len(set(inbox)):
        found.append("twice")
    sent = {m["id"] for m in two["mails"] if m["state"] == "sent"}
    unknown = {m["id"] for m in two["mails"] if m["state"] == "unknown"}
    # Of an unknown mail nobody can say whether it came; it may be there, once.
    if not sent <= set(inbox) <= sent | unknown:
        found.append("lost or strange")
    return found


def test_killing_services_changes_nothing(played: Played, under_fire: Played) -> None:
    assert under_fire.status == 0, under_fire.said[-3000:]
    report = under_fire.report
    assert report["restarts"] >= 8
    assert differences(played, under_fire) == []
    catalogues = (p.out / "catalogues" for p in (played, under_fire))
    one, two = ({f.name: f.read_bytes() for f in folder.iterdir()} for folder in catalogues)
    assert one == two
    # A kill leaves at most what the connections had in hand.
    unknown = [m for m in report["mails"] if m["state"] == "unknown"]
    assert len(unknown) <= Settings.model_fields["smtp_connections"].default * report["restarts"]


def test_without_the_ledger_the_same_kills_send_mails_twice(played: Played, tmp_path: Path) -> None:
    """The control: one promise of the ledger is taken away, and the comparison above notices."""
    naive = killed(tmp_path, "notify", "forget")
    assert naive.status == 1, naive.said[-3000:]
    assert naive.report["sent_twice"]
    assert differences(played, naive) == ["twice"]


def test_the_comparison_notices_what_it_must(played: Played, tmp_path: Path) -> None:
    """Doctored runs: one mail more, one fewer, another catalogue."""

    def doctored(name: str) -> Played:
        copy = Played(tmp_path / name, 0, "")
        (copy.out / "mail").mkdir(parents=True)
        for path in (played.out / "mail").glob("*.eml"):
            (copy.out / "mail" / path.name).write_bytes(path.read_bytes())
        (copy.out / "report.json").write_text(json.dumps(played.report))
        return copy

    assert differences(played, doctored("same")) == []

    again = doctored("twice")
    mail = min((again.out / "mail").iterdir())
    (again.out / "mail" / "9999-again.eml").write_bytes(mail.read_bytes())
    assert differences(played, again) == ["twice"]

    fewer = doctored("fewer")
    min((fewer.out / "mail").iterdir()).unlink()
    assert differences(played, fewer) == ["lost or strange"]

    other = doctored("other")
    report = other.report
    report["catalogues"][0]["sha256"] = "0" * 64
    report["mails"].pop()
    (other.out / "report.json").write_text(json.dumps(report))
    assert differences(played, other) == ["catalogues", "mails", "lost or strange"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"sent_twice": ["<m-1@yiqi.test>"]}, "重复送达"),
        ({"cases": {"published": 58}}, "项目应办结"),
        ({"delivered": []}, "未送达"),
        ({"dead": []}, "无法处理的消息"),
        ({"catalogues": []}, "目录共0行"),
        ({"lives": {"gz-clusters": {"recognised": 1}}}, "gz-clusters"),
    ],
)
def test_the_demo_itself_notices_what_is_wrong(played: Played, change: Report, says: str) -> None:
    report = deepcopy(played.report)
    assert faults(report) == []
    assert [fault for fault in faults({**report, **change}) if says in fault]


# --- the killing ---------------------------------------------------------------------------------------


def _kill(local: "Local", names: Sequence[str], chance: random.Random) -> None:
    """SIGKILL to one of the services about every second in which all of them are up: while the others wait
    for one that is starting, more kills would only make the test longer. In the lives that follow the collection,
    where every step waits for the last, one in ten seconds. Ends once a mail has come twice."""
    while local.running and not twice(_ids(local.mails.directory)):
        threading.Event().wait((0.5 + chance.random()) * (10 if _lives(local) else 1))
        if all(local.page(name, "readyz") == "ok\n" for name in local.names):
            with suppress(KeyError, ProcessLookupError):
                os.kill(local.running[chance.choice(names)].pid, signal.SIGKILL)


def _lives(local: "Local") -> bool:
    """Whether the calendar has left the quarter of the collection."""
    now = datetime.now(UTC) + timedelta(seconds=float(local.clock.read_text() or 0))
    return not date(2025, 2, 1) <= now.date() < date(2025, 4, 1)


def main(seed: str, names: str, out: str) -> int:
    def started(local: "Local") -> None:
        arguments = (local, names.split(","), random.Random(seed))
        threading.Thread(target=_kill, args=arguments, daemon=True).start()

    return run(Path(out), started=started)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
