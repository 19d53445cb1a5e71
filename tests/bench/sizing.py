"""The sizing tables of `deploy/README.md` and `README.en.md`, from what `size.py` has measured: figures in, pages out.

Nothing is measured here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shared.runtime.streams import BUCKET, DAYS, FILE, FORGETS, STREAMS

DEPLOY = Path(__file__).parents[2] / "deploy"
PAGES = {"zh": DEPLOY / "README.md", "en": DEPLOY / "README.en.md"}
BEGIN, END = "<!-- sizes: written by python -m tests.bench.size --write -->\n", "<!-- end of sizes -->\n"
LARGE = (20_000, 200_000, 1_000_000)
"""Filed a year."""
DATABASE = "PostgreSQL"
HELD = tuple(str(s.name) for s in STREAMS if str(s.name) not in (FILE, "SME_ADVISORY"))
"""Files are not in it: how large the scans of a round are is the city's to say."""
MOST = {str(s.name): int(s.max_bytes or 0) for s in STREAMS}


@dataclass(frozen=True)
class Stored:
    """Bytes, and messages where it is a stream."""

    size: float = 0
    messages: float = 0


@dataclass(frozen=True)
class Sizes:
    """Of one submission, by where it lies: until its receipt, and from there to its publication; MB of each process."""

    n: int
    decided: int
    filed: Mapping[str, Stored]
    published: Mapping[str, Stored]
    memory: Mapping[str, tuple[float, float]]
    servers: Mapping[str, float]

    def each(self, where: str) -> float:
        """All that one leaves behind that goes the whole way."""
        return self.filed[where].size + self.published[where].size


WORDS = {
    "zh": {
        "head": "磁盘（{n}件报送，其中{decided}件办到公布；不含附件） | 报送到受理，每件 | 再到公布，每件 | 平均一条",
        "database": "PostgreSQL（表和索引）",
        "stream": "流 {}，每个副本",
        "messages": "{0:.1f}条，{1}",
        "bucket": "存储桶（目录的各个版本），每个副本",
        "memory": "内存（PSS） | 起动后 | 办完以后 | ",
        "large": "规模（推算：每件都办到公布，按上表线性放大，未实测） | 一年报送 | PostgreSQL 一年 | NATS 留{days}天，每个副本 | 最满的流 | SME_AUDIT 几年满 | 副本",
        "names": ("一个市，一季几千件", "一个省会，全部通知", "每年上百万"),
        "counts": ("2万", "20万", "100万"),
        "replicas": ("各2", "各2", "各2，intake 3"),
        "years": "{:.0f}年",
    },
    "en": {
        "head": "disk ({n} submissions, {decided} of them decided to publication; without files) | filed to receipt, each | on to publication, each | a message",
        "database": "PostgreSQL (tables and indexes)",
        "stream": "stream {}, each copy",
        "messages": "{0:.1f} messages, {1}",
        "bucket": "bucket (all versions of catalogues), each copy",
        "memory": "memory (PSS) | started | after all of it | ",
        "large": "size (extrapolated: all go to publication, linear from the above, not measured) | filed a year | PostgreSQL a year | NATS for {days} days, each copy | fullest stream | SME_AUDIT is full in | replicas",
        "names": (
            "a city, some thousands a quarter",
            "a provincial capital, all notices",
            "a million a year",
        ),
        "counts": ("20,000", "200,000", "1,000,000"),
        "replicas": ("2 each", "2 each", "2 each, intake 3"),
        "years": "{:.0f} years",
    },
}


def written(sizes: Sizes, language: str) -> str:
    """Both tables in one language."""
    told = WORDS[language]
    lines = _table(str(told["head"]).format(n=f"{sizes.n:,}", decided=f"{sizes.decided:,}"), 4)
    filed, published = sizes.filed[DATABASE], sizes.published[DATABASE]
    lines.append(_row(told["database"], _bytes(filed.size), _bytes(published.size), "–"))
    for name in HELD:
        lines.append(_row(str(told["stream"]).format(name), *_stream(sizes, name, str(told["messages"]))))
    bucket = _bytes(sizes.filed[BUCKET].size), _bytes(sizes.published[BUCKET].size)
    lines += [_row(told["bucket"], *bucket, "–"), _row(*str(told["memory"]).split(" | "))]
    lines += [_row(who, f"{was:.0f} MB", f"{now:.0f} MB", "") for who, (was, now) in sizes.memory.items()]
    lines += [_row(who, "", f"{now:.0f} MB", "") for who, now in sizes.servers.items()]
    lines += ["", *_table(str(told["large"]).format(days=DAYS), 7)]
    for n, *names in zip(LARGE, told["names"], told["counts"], told["replicas"], strict=True):
        fullest = max((s for s in FORGETS if s != FILE), key=lambda s: _share(sizes, s, n))
        kept = sum(sizes.each(name) * _held(name) * n for name in HELD)
        years = MOST["SME_AUDIT"] / (sizes.each("SME_AUDIT") * n)
        lines.append(
            _row(
                *names[:2],
                _bytes(sizes.each(DATABASE) * n),
                _bytes(kept),
                f"{fullest} {_share(sizes, fullest, n):.0%}",
                str(told["years"]).format(years),
                names[2],
            )
        )
    return "\n".join(lines) + "\n"


def _held(stream: str) -> float:
    """Years that a stream keeps; of what it keeps for ever the first."""
    return DAYS / 365 if stream in FORGETS else 1


def _share(sizes: Sizes, stream: str, n: int) -> float:
    return sizes.each(stream) * n * _held(stream) / MOST[stream]


def _stream(sizes: Sizes, name: str, words: str) -> tuple[str, str, str]:
    parts = sizes.filed[name], sizes.published[name]
    messages = sum(part.messages for part in parts)
    mean = _bytes(sum(part.size for part in parts) / messages) if messages else "–"
    filed, published = (words.format(part.messages, _bytes(part.size)) for part in parts)
    return filed, published, mean


def _table(head: str, columns: int) -> list[str]:
    return [f"| {head} |", "|" + " --- |" * columns]


def _row(*cells: object) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def _bytes(size: float) -> str:
    for unit, of in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(size) >= of:
            return f"{size / of:.{1 if size < 100 * of else 0}f} {unit}"
    return f"{size:.0f} B"


def write(sizes: Sizes) -> None:
    for language, page in PAGES.items():
        before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
        _, end, after = rest.partition(END)
        if not (begin and end):
            raise SystemExit(f"{page.name} has no place for the sizes")
        page.write_text(f"{before}{BEGIN}{written(sizes, language)}{END}{after}", encoding="utf-8")
