"""T1, T18, T20, T28: processes that end at every named point, events that come more than once, one that ends every
process that touches it; nothing lost, nothing twice.

Which points there are is in `changes.py`.
"""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.chaos.changes import POINTS
from tests.chaos.lab import field
from tests.chaos.ledger import Chain, round_
from tests.chaos.oracle import Verdict
from tests.smtp_stub import Stub, say

Tell = Callable[[Verdict], Verdict]

pytestmark = pytest.mark.timeout(1500)

BUSY = say("451 4.2.0 later")


def busy() -> Stub:
    """A mail server that puts off one mail in five, so that notify does too."""
    turns = count()
    return Stub(mood=lambda step: BUSY if step == "RCPT" and next(turns) % 5 == 0 else None)


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("life", ["first", "second"])
async def test_a_process_may_end_anywhere(tmp_path: Path, full: bool, oracle: Tell, life: str) -> None:
    """Any process, at any named point, while events come once, several times, and under the id of another. In full two
    such lives side by side: what they mostly do is wait for what a dead process held."""
    if not full and life == "second":
        pytest.skip("the short form has one of them")
    n, ends, parts = (2_500, 500, 50) if full else (200, 10, 4)
    chains: list[Chain] = []
    async with field(tmp_path, ("hasten", "crashing"), stub=busy()) as here:

        def enough() -> Iterator[Chain]:
            for part in count():
                new = list(round_(n // parts, f"t1-{life}-{part}", packages=2))
                chains.extend(new)
                yield from new
                if part >= parts - 1 and here.lab.crashes().total() >= ends:
                    return

        await here.send(enough())
        await here.drained(900)  # mails go out one by one, and their senders end as well
        crashes = here.lab.crashes()
        # What was alone with three processes that ended is put aside, by chance as much as by its fault: an operator
        # has it handled again, and it has its effect then, once.
        (tmp_path / "calm").touch()
        aside = await here.replayed("code = 'parked'")
        await here.drained(300)
        name = f"T1 crash points, {life} life ({crashes.total()} ends, {aside} put aside and replayed)"
        verdict = oracle(await here.judge(name, chains))
    assert verdict.clean, here.wrong[:9]
    assert verdict.mails_unknown  # a process ended between DATA and the answer: told, and not sent again
    met = {tuple(point.split()) for point in crashes}
    never = {(service, point) for service, points in POINTS.items() for point in points} - met
    assert not (never if full else {service for service in POINTS if not any(s == service for s, _ in met)})


@pytest.mark.parametrize("broken", ["forgetful", "resending"])
async def test_control(tmp_path: Path, oracle: Tell, broken: str) -> None:
    """The same without the inbox, and with mails that are sent again: it must show."""
    async with field(tmp_path, ("hasten", "crashing", broken), stub=busy()) as here:
        chains = list(round_(200, "control", rounds=10 if broken == "forgetful" else 1000))
        await here.send(chains)
        await here.drained(120)
        verdict = oracle(await here.judge(f"T1 control ({broken})", chains))
    assert verdict.duplicate_effects if broken == "forgetful" else verdict.mails_twice


async def test_what_ends_every_process_is_put_aside(tmp_path: Path, oracle: Tell) -> None:
    """Its neighbours are done, it lies among the dead with its reason, and has its effect once the fault is mended."""
    async with field(tmp_path, ("hasten", "poisoned")) as here:
        chains = list(round_(200, "t28"))
        poison = next(sent for chain in chains for sent in chain if sent.fate == "ok" and len(chain) == 1)
        poison.body = poison.body.replace("；".encode(), b"poison", 1)
        await here.send(chains)
        poison.fate = "dead"
        await here.drained(120)
        verdict = oracle(await here.judge("T28 poison", chains))
        assert verdict.clean, here.wrong[:9]
        ended = len(here.lab.ends("intake"))
        assert 3 <= ended <= 20
        (tmp_path / "cured").touch()
        assert await here.replayed(f"seq = {poison.seqs[0]} and code = 'parked'") == 1
        poison.fate = "ok"
        await here.drained(60)
        mended = oracle(await here.judge("T28 poison, mended and replayed", chains))
        assert mended.clean, here.wrong[:9]
