"""Whether the letters can be written as they are: every value that a template names exists, subjects fit, the plain text
says what the page says, and a page asks nothing of the net.

How templates are loaded is in `templates.py`, what they are tried with in `samples.py`.
"""

import re
import traceback
from collections.abc import Iterable, Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from jinja2 import TemplateError, TemplateNotFound, UndefinedError, meta, nodes
from jinja2.exceptions import SecurityError

from services.notify.compose import SUBJECT_LIMIT, context
from services.notify.samples import Sample, samples
from services.notify.templates import BASE, LETTERS, PARTS, BadLetters, Fault, Letters
from shared.notices.directory import Directory
from shared.notices.load import CompiledNotice

LEAST = 0.8
"""How much of what the page says the plain text must say, in characters."""
FETCHED = {"src", "srcset", "background", "poster", "data", "action", "formaction", "xlink:href", "longdesc"}
ACTIVE = {
    "link",
    "script",
    "iframe",
    "frame",
    "object",
    "embed",
    "form",
    "base",
    "video",
    "audio",
    "svg",
    "input",
}
LOADED = re.compile(r"url\s*\(|@import|expression\s*\(", re.IGNORECASE)
LINKS = ("https://", "mailto:", "tel:")

Values = dict[str, Any]


def load(folder: Path | None, notices: Mapping[str, CompiledNotice], directory: Directory) -> Letters:
    """For a service: what is mounted is good, or it does not start. A letter that fell back to the packaged words would
    say what somebody here has decided that it should not, and one that fails when it is due would not be sent."""
    letters = Letters.load(folder)
    # What is packaged was checked before it was packaged.
    if folder and (found := faults(letters, notices, directory)):
        raise BadLetters(found)
    return letters


def faults(letters: Letters, notices: Mapping[str, CompiledNotice], directory: Directory) -> list[Fault]:
    """All of them, each with its place. Every letter is written as often as these notices make it read differently; where
    some are mounted, those alone, unless what all are built on is."""
    known = {id_: compiled.notice for id_, compiled in notices.items()}
    tried: dict[str, list[Sample]] = {letter: [] for letter in LETTERS}
    for one in samples(known, directory):
        tried[one.owed.letter].append(one)
    found: set[Fault] = set()
    contexts: dict[str, list[Values]] = {letter: [] for letter in LETTERS}
    for letter, of_it in tried.items():
        for s in of_it:
            try:
                contexts[letter] += [context(s.owed, letters, s.at, file) for file in (None, "期限.ics")]
            except Exception as error:  # noqa: BLE001 - as below: a letter that tells of others is written from them
                found.add(_raised(letters, letter, error))
    found |= {*_base(letters, contexts)}
    mounted = [letter for letter in LETTERS if letters.overridden(letter)]
    for letter in LETTERS if letters.overridden(BASE) or not letters.folder else mounted:
        for part in PARTS:
            found |= {*_names(letters, f"{letter}/{part}", _joined(contexts[letter]))}
        found |= {*_source(letters, letter), *_written(letters, letter, contexts[letter])}
    # What two ways of looking have found is one fault.
    return sorted(f for f in found if not any(f != g and _said_by(f, g) for g in found))


def _said_by(one: Fault, other: Fault) -> bool:
    return (one.file, one.line) == (other.file, other.line) and other.message.startswith(one.message)


# --- what a template names ---------------------------------------------------------------------------


def _base(letters: Letters, contexts: Mapping[str, list[Values]]) -> Iterator[Fault]:
    """What all letters are built on may only name what each of them has."""
    joined = [_joined(of_it) for of_it in contexts.values() if of_it]
    everywhere = set.intersection(*(set(one) for one in joined))
    known = {
        key: [v for one in joined for v in one[key]] for key in everywhere | {"subject"} if key != "subject"
    }
    for part in PARTS[1:]:
        yield from _names(letters, f"{BASE}/{part}", {**known, "subject": []})
        if part.endswith(".html"):
            yield from _page(letters, f"{BASE}/{part}")


def _joined(contexts: Iterable[Values]) -> dict[str, list[Any]]:
    """All values that a name may have."""
    found: dict[str, list[Any]] = {"subject": []}
    for one in contexts:
        for key, value in one.items():
            found.setdefault(key, []).append(value)
    return found


def _names(letters: Letters, part: str, known: Mapping[str, list[Any]]) -> Iterator[Fault]:
    """Also in branches that no sample reaches."""
    tree = letters.env.parse(letters.source(part), part)
    unknown = meta.find_undeclared_variables(tree) - set(known) - set(letters.env.globals)
    where = letters.where(part)
    for name in tree.find_all(nodes.Name):
        if name.name in unknown:
            yield Fault(where, name.lineno, f"没有名为 {name.name} 的值；可用 {'、'.join(sorted(known))}")
    for dotted in tree.find_all(nodes.Getattr):
        if isinstance(dotted.node, nodes.Name) and dotted.node.name in known:
            values = [v for v in known[dotted.node.name] if isinstance(v, Mapping)]
            if values and not any(dotted.attr in v for v in values):
                has = "、".join(sorted({key for v in values for key in v}))
                yield Fault(where, dotted.lineno, f"{dotted.node.name} 没有 {dotted.attr} 这一项；有 {has}")
    for switch in tree.find_all(nodes.EvalContextModifier):
        yield Fault(where, switch.lineno, "不得关闭自动转义：值里的符号会成为网页代码")


# --- what a template says by itself ------------------------------------------------------------------


def _source(letters: Letters, letter: str) -> Iterator[Fault]:
    subject = letters.source(f"{letter}/subject.txt").strip()
    where = letters.where(f"{letter}/subject.txt")
    if len(subject.splitlines()) != 1:
        yield Fault(where, 1, "主题只能有一行")
    if not re.match("〔.+?〕", subject):
        yield Fault(where, 1, "主题须以〔…〕开头，收件人据此查找和归类")
    yield from _page(letters, f"{letter}/body.html")


def _page(letters: Letters, part: str) -> Iterator[Fault]:
    reader = _Page()
    reader.feed(letters.source(part))
    reader.close()
    where = letters.where(part)
    yield from (Fault(where, line, message) for line, message in reader.found)


class _Page(HTMLParser):
    """Reads a page as it is written, before values come in: values cannot bring tags, they are escaped."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[int, str]] = []
        self.styled = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        line, _ = self.getpos()
        self.styled = tag == "style"
        if tag in ACTIVE:
            self.found.append((line, f"邮件网页不得有 <{tag}>"))
        for name, value in attrs:
            value = (value or "").strip()
            if name in FETCHED or LOADED.search(value):
                self.found.append((line, f"邮件网页不得引用外部资源：{name}"))
            elif name == "href" and not value.startswith(LINKS):
                self.found.append((line, "链接须以 https://、mailto: 或 tel: 开头"))
            elif name.startswith("on"):
                self.found.append((line, f"邮件网页不得有脚本：{name}"))
            elif tag == "meta" and name == "http-equiv" and value.lower() == "refresh":
                self.found.append((line, "邮件网页不得自动跳转"))

    def handle_endtag(self, tag: str) -> None:
        self.styled = False

    def handle_data(self, data: str) -> None:
        if self.styled and LOADED.search(data):
            self.found.append((self.getpos()[0], "邮件网页不得引用外部资源：style"))


# --- what it says with values ------------------------------------------------------------------------


def _written(letters: Letters, letter: str, contexts: list[Values]) -> Iterator[Fault]:
    if not contexts:
        # For tests: a letter that no packaged notice owes would be tried by nobody.
        yield Fault(letters.where(f"{letter}/{PARTS[0]}"), 0, "没有示例数据，未能试写")
    subject, body = f"{letter}/{PARTS[0]}", _mounted(letters, f"{letter}/{PARTS[1]}")
    sizes = []
    for one in contexts:
        try:
            written = letters.write(letter, one)
        except Exception as error:  # noqa: BLE001 - a template may fail in any way that a filter can
            yield _raised(letters, letter, error)
            continue
        line = " ".join(written.subject.split())
        if not 0 < len(line) <= SUBJECT_LIMIT:
            yield Fault(letters.where(subject), 1, f"主题有{len(line)}字，应为1至{SUBJECT_LIMIT}字")
        sizes.append((len(_dense(written.text)), len(_dense(seen(written.html)))))
    said, shown = min(sizes, key=lambda size: size[0] - LEAST * size[1], default=(0, 0))
    if said < LEAST * shown:
        yield Fault(body, 0, f"纯文本（{said}字）比网页（{shown}字）少：只看纯文本的人会漏掉内容")


def _mounted(letters: Letters, part: str) -> str:
    """Whose fault it is: the letter's own part, unless only what all are built on was changed."""
    own = letters.where(part)
    shared = letters.where(f"{BASE}/{part.partition('/')[2]}")
    return shared if own.startswith("letters/") and not shared.startswith("letters/") else own


def seen(page: str) -> str:
    """The text of a page that a reader sees."""
    reader = _Seen()
    reader.feed(page)
    reader.close()
    return "\n".join(reader.found)


class _Seen(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.hidden += tag in ("head", "style", "title")

    def handle_endtag(self, tag: str) -> None:
        self.hidden -= tag in ("head", "style", "title")

    def handle_data(self, data: str) -> None:
        if not self.hidden and data.strip():
            self.found.append(data.strip())


def _dense(text: str) -> str:
    return "".join(text.split())


def _raised(letters: Letters, letter: str, error: Exception) -> Fault:
    """Where in the templates it was raised: the innermost of their lines."""
    places = {letters.templates[part].filename: part for part in letters.templates}
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename in places]
    part = places[frames[-1].filename] if frames else f"{letter}/{PARTS[1]}"
    line = (frames[-1].lineno or 0) if frames else 0
    if part.startswith(BASE) and "Required block" in str(error):
        # Missing in what is built on it.
        part, line = f"{letter}/{part.partition('/')[2]}", 0
    return Fault(letters.where(part), line, _worded(error))


def _worded(error: Exception) -> str:
    text = str(error)
    if found := re.fullmatch("'(.+)' is undefined", text):
        return f"没有名为 {found[1]} 的值"
    if found := re.search("has no (?:attribute|element) '?(.+?)'?$", text):
        return f"没有 {found[1]} 这一项"
    if found := re.match("Required block '(.+)' not found", text):
        return f"缺少 {found[1]} 一块"
    if isinstance(error, TemplateNotFound):
        return f"没有模板 {text}"
    if isinstance(error, SecurityError):
        return f"模板不得这样做：{text}"
    kind = "值" if isinstance(error, UndefinedError) else "模板" if isinstance(error, TemplateError) else "值"
    return f"{kind}不能这样用：{text or type(error).__name__}"
