"""How fast mails may go to one domain: so many a minute, one at a time, and not while it says `later`.

Seconds are given, from whatever clock; who waits for them is `sending.py`. A domain without a rate goes as fast as
the relay takes it, until it refuses.
"""

from collections.abc import Mapping
from dataclasses import dataclass

ELSE = "*"
"""The rate of every domain that has none of its own."""
PUBLIC = [
    "qq.com",
    "foxmail.com",
    "163.com",
    "126.com",
    "yeah.net",
    "sina.com",
    "sina.cn",
    "sohu.com",
    "139.com",
    "189.cn",
    "21cn.com",
    "aliyun.com",
    "gmail.com",
    "outlook.com",
    "hotmail.com",
]
DEFAULT = dict.fromkeys(PUBLIC, 60.0)
"""Mails a minute to hosts that throttle. Ours: they do not publish what they take."""

PATIENCE = 3
"""Refusals in a row that may be about one mailbox each; the next ones are about the domain."""
PAUSES = (5.0, 15.0, 60.0, 300.0, 900.0)
"""Seconds that a domain is left alone after that; the last repeats."""


@dataclass(slots=True)
class _Domain:
    rate: float | None
    tokens: float
    at: float
    """When the tokens were counted."""
    busy: int = 0
    refusals: int = 0
    until: float = 0.0


class Pace:
    def __init__(self, rates: Mapping[str, float]) -> None:
        self._rates = dict(rates)
        self._domains: dict[str, _Domain] = {}

    def waits(self, domain: str, now: float) -> float:
        """Seconds until a mail may go there; infinite when that is for a mail that is on its way to say."""
        known = self._known(domain, now)
        if known is None:
            return 0.0
        if known.busy and (known.rate is not None or known.refusals >= PATIENCE):
            return float("inf")
        empty = 0.0
        if known.rate is not None:
            self._fill(known, now)
            empty = max(0.0, 1 - known.tokens) * 60 / known.rate
        return max(known.until - now, empty, 0.0)

    def begin(self, domain: str, now: float) -> None:
        known = self._known(domain, now)
        if known is None:
            known = self._domains[domain] = _Domain(None, 0, now)
        known.busy += 1
        known.tokens -= 1

    def end(self, domain: str, now: float, *, refused: bool) -> None:
        """`refused` for the time being, by the domain; everything else is no sign against it."""
        known = self._domains[domain]
        known.busy -= 1
        known.refusals = known.refusals + 1 if refused else 0
        if known.refusals >= PATIENCE:
            pause = PAUSES[min(known.refusals - PATIENCE, len(PAUSES) - 1)]
            known.until = max(known.until, now + pause)
        full = known.rate is None or known.tokens >= known.rate
        if not known.busy and not known.refusals and full:
            del self._domains[domain]

    def _known(self, domain: str, now: float) -> _Domain | None:
        rate = self._rates.get(domain, self._rates.get(ELSE))
        if rate is not None and domain not in self._domains:
            self._domains[domain] = _Domain(rate, rate, now)
        return self._domains.get(domain)

    @staticmethod
    def _fill(known: _Domain, now: float) -> None:
        assert known.rate is not None
        known.tokens = min(max(known.rate, 1.0), known.tokens + (now - known.at) * known.rate / 60)
        known.at = now
