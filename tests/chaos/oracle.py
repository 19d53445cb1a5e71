"""What a chaos test has seen, as one line; the same counts for every test, so that the lines can be read as a table.

How the counts come about is not here: `lab.py` takes them from the ledger of what was sent and from what there is
afterwards.
"""

from dataclasses import dataclass, fields


@dataclass
class Verdict:
    """The fates of everything that one test has sent. `sent` = `ok` + `dead` + `refused` + `lost`.

    `ok` had its effect; `dead` lies in a dead row, `refused` was answered with a problem or not taken at all, both
    with the reason; `lost` was acknowledged to its publisher and is nowhere. `duplicate_effects` and `mails_twice`
    count what happened more than once, `mails_unknown` the mails of which nobody can know (told, never sent again),
    `foreign_decisions` the decisions of an agency that is no party of the case.
    """

    name: str
    sent: int = 0
    ok: int = 0
    dead: int = 0
    refused: int = 0
    lost: int = 0
    duplicate_effects: int = 0
    mails_twice: int = 0
    mails_unknown: int = 0
    foreign_decisions: int = 0

    @property
    def line(self) -> str:
        counts = " ".join(f"{f.name}={getattr(self, f.name)}" for f in fields(self)[1:])
        return f"{self.name}: {counts}"

    @property
    def clean(self) -> bool:
        """Nothing of what is promised never to happen; a negative control must not be clean."""
        return not (self.lost or self.duplicate_effects or self.mails_twice or self.foreign_decisions)
