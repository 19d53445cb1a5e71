"""What is sent in a chaos test, with the fate that each of it must have.

How it is sent and what became of it is in `lab.py`. The events are those of a round: filings of two annexes, some of
them broken in every way that a publisher can break them, decisions, packages with workbooks, catalogues.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Literal
from uuid import UUID, uuid5

from services.cli.demo.papers import scan
from shared.contracts.envelope import YIQI
from shared.contracts.registry import (
    CATALOGUE_REQUESTED,
    DECISION_MADE,
    PACKAGE_FILED,
    EventType,
)
from shared.notices.directory import unlisted
from shared.notices.load import load_all
from tests.bench.work import NOTICE, filings
from tests.items import LECTURE
from tests.workbooks import head, xlsx

Fate = Literal["ok", "refused", "dead"]
Kind = Literal["filing", "decision", "package", "catalogue"]

CITY = "440100"
STRANGER = "440103"
"""A district that is no party of any case here."""

OFFICE = "chaos"


@dataclass
class Sent:
    """One event. `seqs` are its places in the stream, as the stream has acknowledged them: none, and nobody was
    promised anything. `copies` are how often it is published; each is another message to the stream."""

    id: str
    subject: str
    body: bytes
    fate: Fate
    kind: Kind
    case: UUID | None = None
    copies: int = 1
    files: tuple[bytes, ...] = ()
    seqs: list[int] = field(default_factory=list)

    @property
    def token(self) -> str:
        return self.subject.split(".")[3]


Chain = list[Sent]
"""What is sent one after the other, each when the one before has been answered."""


def event(type_: EventType, publisher: str, data: dict[str, Any], *cause: object) -> tuple[str, bytes]:
    id_ = str(uuid5(YIQI, "/".join(map(str, cause))))
    document = {
        "specversion": "1.0",
        "id": id_,
        "source": f"urn:cn:gov:gz:{publisher}:{OFFICE}",
        "type": type_.ce_type,
        "time": datetime.now(UTC).isoformat(),
        "data": data,
    }
    return id_, json.dumps(document, ensure_ascii=False).encode()


def round_(n: int, seed: str, *, rounds: int = 40, packages: int = 0) -> Iterator[Chain]:
    """About `n` events: of a hundred filings, four break a rule, two are no event at all, one lies about its publisher,
    one uses the id of another; one in ten is sent two to five times. Of every `rounds` filings one is decided to its
    end, and one by a stranger too."""
    chance = random.Random(seed)
    made = 0
    for i, filed in enumerate(filings(n, seed)):
        if made >= n:
            break
        sent = Sent(_id(filed.body), filed.subject, filed.body, "ok", "filing", filed.case)
        chain = [sent]
        what = chance.random()
        if what < 0.04:
            sent.body, sent.fate = _without(filed.body, "contact"), "refused"
        elif what < 0.06:
            sent.body, sent.fate = filed.body[: -chance.randint(1, 200)], "dead"
        elif what < 0.07:
            sent.body, sent.fate = _lying(sent), "dead"
        elif what < 0.08:
            # One code point more in a sentence: the same id, and another body.
            other = filed.body.replace("；".encode(), "；；".encode(), 1)
            chain.append(Sent(sent.id, sent.subject, other, "dead", "filing"))
        elif what < 0.18:
            sent.copies = chance.randint(2, 5)
        # Not of a listed agency: its quota would want an acknowledgement.
        if i % rounds == 1 and sent.fate == "ok" and len(chain) == 1:
            chain += _decided(sent, chance, seed)
        made += len(chain)
        yield chain
        if i % (4 * rounds) == 0:
            yield [_catalogue(seed, i)]
    for i in range(packages):
        yield [_package(i, seed, chance)]


def _decided(sent: Sent, chance: random.Random, seed: str) -> Iterator[Sent]:
    """A stranger first, who may not; then the city, to the end or back to the filer."""
    returned = chance.random() < 0.3
    steps: list[tuple[str, str, Fate]] = [(STRANGER, "accept", "refused")]
    if returned:
        steps += [(CITY, "return", "ok"), (CITY, "select", "refused")]
    else:
        steps += [(CITY, "accept", "ok"), (CITY, "select", "ok"), (CITY, "publish", "ok")]
    for publisher, outcome, fate in steps:
        data: dict[str, Any] = {"case": str(sent.case), "outcome": outcome, "reason": "按程序办理"}
        if outcome == "return":
            data["fixes"] = [{"field": "contact", "detail": "请补充联系电话"}]
        id_, body = event(DECISION_MADE, publisher, data, seed, sent.case, publisher, outcome)
        copies = chance.choice((1, 1, 1, 2))
        yield Sent(id_, DECISION_MADE.subject(publisher), body, fate, "decision", sent.case, copies)


def _package(i: int, seed: str, chance: random.Random) -> Sent:
    """A workbook of two rows, the second of which is faulty now and then, and a scan with a seal."""
    form = load_all()[NOTICE].notice.by_form["F3"]
    who = unlisted(f"广州{seed}{i}号打包服务有限公司")
    rows = []
    for n in range(2):
        broken = n == 1 and chance.random() < 0.5
        values = {**LECTURE, "organizer": who.name, "activity_name": f"讲座{seed}-{i}-{n}"}
        if broken:
            values["content"] = ""
        rows.append([n + 1, *(values.get(c.key) for c in form.columns)])
    book = xlsx({"附件3": [[f"{form.annex} {form.title}"], head(form), *rows]})
    files = {"附件3.xlsx": book, "盖章扫描件.pdf": scan(who.name, "2025年3月3日")}
    refs = [
        {
            "role": "workbook" if name.endswith("xlsx") else "scan",
            "sha256": sha256(file).hexdigest(),
            "size": len(file),
            "name": name,
        }
        for name, file in files.items()
    ]
    filer = {"code": who.code, "kind": who.kind, "name": who.name, "email": f"{who.code}@example.cn"}
    data = {"notice": NOTICE, "filer": filer, "files": refs}
    id_, body = event(PACKAGE_FILED, who.code, data, seed, "package", i)
    return Sent(id_, PACKAGE_FILED.subject(who.code), body, "ok", "package", files=tuple(files.values()))


def _catalogue(seed: str, n: int) -> Sent:
    id_, body = event(CATALOGUE_REQUESTED, CITY, {"notice": NOTICE}, seed, "catalogue", n)
    return Sent(id_, CATALOGUE_REQUESTED.subject(CITY), body, "ok", "catalogue")


def _id(body: bytes) -> str:
    return str(json.loads(body)["id"])


def _lying(sent: Sent) -> bytes:
    other = "440112" if sent.token == "440111" else "440111"
    return sent.body.replace(f":{sent.token}:".encode(), f":{other}:".encode(), 1)


def _without(body: bytes, key: str) -> bytes:
    document = json.loads(body)
    del document["data"]["values"][key]
    return json.dumps(document, ensure_ascii=False).encode()
