"""The table of outages in the README, from what the last `make chaos` has seen.

    python -m tests.chaos.table

How an outage is made is in `test_downtime.py`.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from shared.runtime import SERVICES
from tests.chaos.oracle import Verdict

ROOT = Path(__file__).parents[2]
SEEN = ROOT / "var" / "outages"
RECEIVERS = ("NATS", "PostgreSQL", "SMTP", *SERVICES)
BEGIN, END = "<!-- outages: written by make chaos -->\n", "<!-- end of outages -->\n"
SECONDS = (10, 60, 300, 600)


def note(receiver: str, outages: Mapping[int, tuple[Verdict, float]]) -> None:
    """Remember what the outages of one receiver were like, and how long each took to drain; a file each, because the
    receivers are tested side by side."""
    SEEN.mkdir(parents=True, exist_ok=True)
    told = {
        seconds: {"lost": v.lost, "twice": v.duplicate_effects + v.mails_twice, "took": took}
        for seconds, (v, took) in outages.items()
    }
    (SEEN / f"{receiver}.json").write_text(json.dumps(told, indent=1))


def written() -> str:
    lines = [
        "| away | " + " | ".join(f"{s} s" for s in SECONDS) + " | lost | twice |",
        "| --- | " + " | ".join("---" for _ in SECONDS) + " | --- | --- |",
    ]
    for receiver in RECEIVERS:
        outages = json.loads((SEEN / f"{receiver}.json").read_text())
        took = (f"{outages[str(s)]['took']:.1f} s" for s in SECONDS)
        lost, twice = (sum(o[what] for o in outages.values()) for what in ("lost", "twice"))
        lines.append(f"| {receiver} | {' | '.join(took)} | {lost} | {twice} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    readme = ROOT / "README.md"
    before, _, rest = readme.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    readme.write_text(f"{before}{BEGIN}{written()}{END}{after}")


if __name__ == "__main__":
    main()
