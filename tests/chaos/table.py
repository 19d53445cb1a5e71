"""The table of outages in the README, from what the last `make chaos` has seen.

    python -m tests.chaos.table

How an outage is made is in `test_downtime.py`.
"""

import json
from pathlib import Path

from tests.chaos.oracle import Verdict

ROOT = Path(__file__).parents[2]
SEEN = ROOT / "var" / "downtime.json"
BEGIN, END = "<!-- outages: written by make chaos -->\n", "<!-- end of outages -->\n"
SECONDS = (10, 60, 300, 600)


def note(receiver: str, seconds: int, verdict: Verdict, took: float) -> None:
    """Remember one outage."""
    seen = json.loads(SEEN.read_text()) if SEEN.exists() else {}
    counts = {"lost": verdict.lost, "twice": verdict.duplicate_effects + verdict.mails_twice, "took": took}
    seen.setdefault(receiver, {})[str(seconds)] = counts
    SEEN.parent.mkdir(exist_ok=True)
    SEEN.write_text(json.dumps(seen, ensure_ascii=False, indent=1))


def written(seen: dict[str, dict[str, dict[str, float]]]) -> str:
    lines = [
        "| away | " + " | ".join(f"{s} s" for s in SECONDS) + " | lost | twice |",
        "| --- | " + " | ".join("---" for _ in SECONDS) + " | --- | --- |",
    ]
    for receiver, outages in seen.items():
        took = (f"{outages[str(s)]['took']:.1f} s" if str(s) in outages else "" for s in SECONDS)
        lost, twice = (int(sum(o[what] for o in outages.values())) for what in ("lost", "twice"))
        lines.append(f"| {receiver} | {' | '.join(took)} | {lost} | {twice} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    readme = ROOT / "README.md"
    before, _, rest = readme.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    readme.write_text(f"{before}{BEGIN}{written(json.loads(SEEN.read_text()))}{END}{after}")


if __name__ == "__main__":
    main()
