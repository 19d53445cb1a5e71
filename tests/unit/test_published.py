"""The published contracts: they are what the code says, a change of them is seen and judged, an example is for ever.

Whether services and schemas agree on every document is in `test_schemas.py`.
"""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from jsoncompat import check_compat
from jsonschema import Draft202012Validator
from pydantic import Field
from typer.testing import CliRunner

from services.cli import app
from services.cli.common import Fail
from services.cli.contracts.published import told
from shared.contracts import case, frozen, scalars, schemas, submission, types, words
from shared.contracts.fields import fields
from shared.contracts.frozen import Change, Role, change, compatible, of_type
from shared.contracts.registry import (
    ASKS,
    CASE_ADVANCED,
    CATALOGUE_REQUESTED,
    DECISION_MADE,
    EVENT_ACCEPTED,
    EVENTS,
    SCORE_GIVEN,
    SUBMISSION_FILED,
    EventType,
)
from shared.contracts.scalars import Whole
from shared.contracts.schemas import Schema, nodes, of_event, of_model
from shared.contracts.types import Inbound, Outbound, Short
from shared.notices.forms import FormJudge
from shared.notices.load import load_all
from tests.schemas import good

run = CliRunner()


def test_the_published_contracts_are_what_the_code_says() -> None:
    """A change of a contract is told here, with whom it would break."""
    result = run.invoke(app, ["contracts", "check"])
    assert result.exit_code == 0, result.output


# --- changes of the code -------------------------------------------------------------------------------


class Filer(Inbound):
    code: types.Token
    kind: Literal["city", "K1", "K2", "K3", "K4", "K5"]  # no K6
    name: Short
    email: Annotated[str, Field(max_length=254)] | None = None
    miit_registered: bool | None = None


class CatalogueRequested(Inbound):
    """As it is, but for a new name of `public`."""

    notice: Short
    form: Annotated[str, Field(max_length=16)] | None = None
    open: bool = False


class Narrowed(submission.SubmissionFiled):
    filer: Filer  # type: ignore[assignment]


class Demanding(submission.SubmissionFiled):
    quarter: Short


class Generous(submission.SubmissionFiled):
    quarter: Short | None = None


class Talkative(case.CaseAdvanced):
    quarter: Short | None = None


def altered(type_: EventType, payload: Any) -> EventType:
    payload.__name__ = type_.payload.__name__
    return replace(type_, payload=payload)


CHANGES: dict[str, tuple[EventType, str, list[str]]] = {
    "a field is renamed": (
        altered(CATALOGUE_REQUESTED, CatalogueRequested),
        "breaking",
        ["data.public：取消", "data.open：新增", "发布者：市级主管部门（city）"],
    ),
    "an enum is narrowed": (
        altered(SUBMISSION_FILED, Narrowed),
        "breaking",
        ["data.filer.kind：不再允许 K6", "发布者：各单位（agency）"],
    ),
    "a required field is added": (
        altered(SUBMISSION_FILED, Demanding),
        "breaking",
        ["data.quarter：新增，必填", "发布者：各单位（agency）"],
    ),
    "an optional field is added": (
        altered(SUBMISSION_FILED, Generous),
        "compatible",
        ["data.quarter：新增", "写出 1.1"],
    ),
    "an optional field is told": (
        altered(CASE_ADVANCED, Talkative),
        "compatible",
        ["data.quarter：新增", "写出 1.1"],
    ),
}


def found(type_: EventType) -> Change | None:
    return change(of_type(type_), check_compat)


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_of_a_model_is_judged_and_told(what: str) -> None:
    type_, kind, said = CHANGES[what]
    seen = found(type_)
    assert seen is not None
    lines = "\n".join(told(seen))
    assert seen.kind == kind
    assert all(word in lines for word in said), lines
    assert ("会受影响" in lines) == (kind == "breaking")
    assert seen.version == "1.1"


def test_without_a_change_nothing_is_told() -> None:
    """The negative control."""
    assert [found(e) for e in EVENTS] == [None] * len(EVENTS)


# --- changes of a schema, over all kinds ---------------------------------------------------------------

Edit = Callable[[dict[str, Any]], Any]


def props(schema: Schema, title: str) -> dict[str, Any]:
    found: dict[str, Any] = schema["$defs"][title]["properties"]
    return found


def drop(title: str, key: str) -> Edit:
    def edit(s: Schema) -> None:
        del props(s, title)[key]
        required = s["$defs"][title].get("required", [])
        if key in required:
            required.remove(key)

    return edit


def put(title: str, key: str, **more: Any) -> Edit:
    return lambda s: props(s, title)[key].update(more)


def demand(title: str, key: str) -> Edit:
    return lambda s: s["$defs"][title].setdefault("required", []).append(key)


def spare(title: str, key: str) -> Edit:
    return lambda s: s["$defs"][title]["required"].remove(key)


KINDS = ["city", "K1", "K2", "K3", "K4", "K5", "K6"]
FILED, ADVANCED = "SubmissionFiled", "CaseAdvanced"

EDITS: dict[str, tuple[EventType, Edit, bool, bool]] = {
    # what, of which type, how, and whether new readers take what was written, old readers what will be
    "nothing": (SUBMISSION_FILED, lambda s: None, True, True),
    "a description": (SUBMISSION_FILED, put(FILED, "form", description="另一句"), True, True),
    "longer": (SUBMISSION_FILED, put(FILED, "form", maxLength=99), True, False),
    "shorter": (SUBMISSION_FILED, put(FILED, "form", maxLength=3), False, True),
    "enum wider": (SUBMISSION_FILED, put("Filer", "kind", enum=[*KINDS, "K7"]), True, False),
    "enum narrower": (SUBMISSION_FILED, put("Filer", "kind", enum=KINDS[:-1]), False, True),
    "another pattern": (SUBMISSION_FILED, put("Filer", "code", pattern="^[a-z]+$"), False, False),
    "a pattern more": (SUBMISSION_FILED, put(FILED, "form", pattern="^F[0-9]+$"), False, True),
    "another type": (SUBMISSION_FILED, put(FILED, "form", type="integer"), False, False),
    "required now": (SUBMISSION_FILED, demand(FILED, "recommender"), False, True),
    "optional now": (SUBMISSION_FILED, spare(FILED, "form"), True, False),
    "optional gone": (SUBMISSION_FILED, drop(FILED, "case"), False, False),
    "fewer items": (SUBMISSION_FILED, put(FILED, "files", maxItems=4), False, True),
    "more items": (SUBMISSION_FILED, put(FILED, "files", maxItems=400), True, False),
    "smaller number": (SUBMISSION_FILED, put("FileRef", "size", maximum=1000), False, True),
    "another default": (DECISION_MADE, put("DecisionMade", "rules", default=["x"]), False, False),
    "values of a map": (SCORE_GIVEN, put("ScoreGiven", "points", additionalProperties={"type": "string"}), False, False),
    "told longer": (CASE_ADVANCED, put("Party", "name", maxLength=999), True, False),
    "told with a new code": (CASE_ADVANCED, put("Party", "kind", enum=[*KINDS, "K7"]), True, False),
    "told no more": (CASE_ADVANCED, drop(ADVANCED, "form"), True, False),
    "optional told no more": (CASE_ADVANCED, drop(ADVANCED, "score"), True, False),
    "always told now": (CASE_ADVANCED, demand(ADVANCED, "score"), False, True),
}  # fmt: skip


@pytest.mark.parametrize("what", EDITS)
def test_every_kind_of_change_is_judged_by_who_reads(what: str) -> None:
    type_, edit, reads, writes = EDITS[what]
    old = of_event(type_)
    new: Schema = json.loads(json.dumps(old))
    edit(new)
    expected: dict[Role, bool] = {"deserializer": reads, "serializer": writes, "both": reads and writes}
    assert {role: compatible(old, new, role, check_compat) for role in expected} == expected


def test_the_tool_alone_would_let_patterns_pass() -> None:
    """Why some of it is ours. When a later jsoncompat sees these, this says so."""
    old = of_event(SUBMISSION_FILED)
    new: Schema = json.loads(json.dumps(old))
    EDITS["another pattern"][1](new)
    assert check_compat(frozen._json(frozen._closed(old)), frozen._json(new), "deserializer")


def test_every_difference_has_a_sentence() -> None:
    for what, (type_, edit, reads, writes) in EDITS.items():
        old = of_event(type_)
        new: Schema = json.loads(json.dumps(old))
        edit(new)
        if not (reads and writes):
            assert list(frozen.differences(old, new)), what


# --- the folder ----------------------------------------------------------------------------------------


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(frozen.FOLDER, tmp_path / "published"))


def checked(folder: Path) -> tuple[int, str]:
    result = run.invoke(app, ["contracts", "check", "--dir", str(folder)])
    return result.exit_code, "".join(result.output.split("\n"))


def built(folder: Path) -> tuple[int, str]:
    result = run.invoke(app, ["contracts", "build", "--dir", str(folder)])
    return result.exit_code, result.output


def test_a_break_is_not_published_and_a_compatible_change_is_a_file_more(copy: Path) -> None:
    """The folder is the past; it is changed here, so that the code seems to have changed since."""
    file = copy / SUBMISSION_FILED.ce_type / "1.0.json"
    now = json.loads(file.read_bytes())
    # As if `case` and K6 had not been there: the code has added an optional field and a code.
    then: Schema = json.loads(json.dumps(now))
    drop(FILED, "case")(then)
    put("Filer", "kind", enum=KINDS[:-1])(then)
    file.write_text(frozen.written(then))
    status, said = checked(copy)
    assert (status, "兼容的变动" in said, "不兼容" in said) == (1, True, False)
    assert built(copy)[0] == 0
    assert json.loads(file.read_bytes()) == then
    made = json.loads((file.parent / "1.1.json").read_bytes())
    assert made["$id"] == "urn:cn:gov:gz:sme:schema:submission.filed:1.1"
    assert {**made, "$id": 0} == {**now, "$id": 0}
    assert checked(copy)[0] == 0
    # As if there had been a code more: the code has taken it away.
    put("Filer", "kind", enum=[*KINDS, "K7"])(made)
    (file.parent / "1.1.json").write_text(frozen.written(made))
    status, said = checked(copy)
    assert status == 1
    assert "不再允许 K7" in said
    assert "发布者：各单位（agency）" in said
    assert built(copy)[0] == 1
    assert not (file.parent / "1.2.json").exists()


def test_other_words_take_the_place_of_the_words_that_were(copy: Path) -> None:
    file = copy / SUBMISSION_FILED.ce_type / "1.0.json"
    now = file.read_bytes()
    file.write_text(now.decode().replace("通知编号", "通知的编号"))
    assert checked(copy)[0] == 1
    assert built(copy)[0] == 0
    assert file.read_bytes() == now


def test_a_form_may_break_by_a_new_major_version_only(copy: Path) -> None:
    key = "forms/gz-collection-2025q1/F3"
    file = copy / key / "1.0.json"
    then = json.loads(file.read_bytes())
    del then["properties"]["venue"]
    then["required"].remove("venue")
    file.write_text(frozen.written(then))
    status, said = checked(copy)
    assert status == 1
    assert "venue：新增，必填" in said
    assert "报送通知 gz-collection-2025q1 表 F3 的单位" in said
    assert built(copy)[0] == 1
    assert run.invoke(app, ["contracts", "build", "--dir", str(copy), "--major", key]).exit_code == 0
    assert frozen.versions(key, copy) == [(1, 0), (2, 0)]
    assert checked(copy)[0] == 0


@pytest.mark.parametrize("how", ["changed", "removed"])
def test_an_example_is_for_ever(copy: Path, how: str) -> None:
    example = copy / EVENT_ACCEPTED.ce_type / "examples/every-field.json"
    if how == "removed":
        example.unlink()
    else:
        example.write_text(example.read_text().replace("accepted", "Accepted", 1) + "\n")
    status, said = checked(copy)
    assert status == 1
    assert f"{EVENT_ACCEPTED.ce_type}/examples/every-field.json：范例一经公布" in said
    assert built(copy)[0] == 1


def test_a_contract_that_is_none_any_more_is_told(copy: Path) -> None:
    (copy / "cn.gov.gz.sme.letter.lost.v1").mkdir()
    shutil.copy(copy / DECISION_MADE.ce_type / "1.0.json", copy / "cn.gov.gz.sme.letter.lost.v1/1.0.json")
    status, said = checked(copy)
    assert status == 1
    assert "cn.gov.gz.sme.letter.lost.v1：已经公布，现在却没有了" in said
    assert built(copy)[0] == 1


def test_an_example_that_is_accepted_no_more_is_told(copy: Path) -> None:
    example = copy / DECISION_MADE.ce_type / "examples/earlier.json"
    event = json.loads((example.parent / "every-field.json").read_bytes())
    event["data"]["verdict"] = "accept"
    example.write_text(json.dumps(event))
    status, said = checked(copy)
    assert status == 1
    assert "不再接受曾经公布的范例" in said
    assert "#/data/verdict" in said


def test_an_example_more_is_listed(copy: Path) -> None:
    source = copy / DECISION_MADE.ce_type / "examples/every-field.json"
    shutil.copy(source, source.with_name("again.json"))
    assert checked(copy)[0] == 1
    assert built(copy)[0] == 0
    listed = json.loads((copy / frozen.INDEX).read_bytes())["types"]
    (names,) = (set(t["examples"]) for t in listed if t["type"] == DECISION_MADE.ce_type)
    assert names >= {"every-field", "again"}
    assert checked(copy)[0] == 0


def test_where_the_tool_is_not_installed_nothing_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the image: there, events can be validated, and contracts are not made."""
    monkeypatch.setitem(sys.modules, "jsoncompat", None)
    result = run.invoke(app, ["contracts", "check"])
    assert isinstance(result.exception, Fail)
    assert "make setup" in str(result.exception)
    example = frozen.FOLDER / DECISION_MADE.ce_type / "examples/least.json"
    assert run.invoke(app, ["contracts", "validate", str(example)]).exit_code == 0


# --- what a schema says --------------------------------------------------------------------------------

JUDGES = [judge for compiled in load_all().values() for judge in compiled.forms.values()]
SCHEMAS = {e.name: of_event(e) for e in EVENTS} | {
    f"{a.name}/{m.__name__}": of_model(m, "urn:x") for a in ASKS for m in (a.payload, a.answer)
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_titles_are_ascii_and_everything_is_said_in_chinese(name: str) -> None:
    """A Chinese title would lose its type in generated code."""
    schema = SCHEMAS[name]
    titles = {node.get("title", "X") for node in nodes(schema)}
    assert all(title.isascii() and title.isidentifier() for title in titles)
    silent = [
        path for path, one in fields(schema).items() if not one.description and not path.endswith(("[]", "*"))
    ]
    assert silent == [], "name them in shared/contracts/words.py"


@pytest.mark.parametrize("judge", JUDGES, ids=lambda j: j.form.id)
def test_a_row_that_its_schema_allows_has_no_fault_of_shape(judge: FormJudge) -> None:
    """Of content it may have many: no schema tells check digits, and no generator writes telephone numbers."""
    schema: Schema = json.loads(json.dumps(schemas.complete(judge.schema(), "urn:x")))
    for node in nodes(schema):
        if isinstance(node.get("type"), list):
            least = node.pop("minLength", 0)
            node["anyOf"] = [{"type": one, "minLength": least} for one in node.pop("type")]
        if node.get("type") == "string" and (node.get("pattern") == schemas.TEXT or node.get("minLength")):
            node["pattern"] = "^[0-9A-Za-z]{1,18}$"  # blanks are no text, which no schema need tell
        if node.get("format") in ("email", "date"):
            del node["format"]

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(good(schema))
    def holds(row: dict[str, Any]) -> None:
        found = [f for f in judge.judge(row).findings if f.severity == "hard"]
        shape = [f for f in found if f.code.startswith("schema.") or f.code == "missing"]
        assert [(f.code, f.pointer) for f in shape] == []

    holds()


@pytest.mark.parametrize("judge", JUDGES, ids=lambda j: j.form.id)
def test_a_row_with_a_column_too_many_or_too_few_is_refused_by_both(judge: FormJudge) -> None:
    schema = schemas.complete(judge.schema(), "urn:x")
    for row in ({}, {"no_such_column": "x"}):
        assert not Draft202012Validator(schema).is_valid(row)
        assert judge.judge(row).stored is None


def test_every_event_and_question_has_a_name_and_no_name_is_left_over() -> None:
    assert set(words.EVENTS) | {"history.written"} == {e.name for e in EVENTS} | {a.name for a in ASKS}


def test_patterns_are_of_the_common_kind() -> None:
    """Go and Rust know no look-around, and only Python takes `\\d` for the digits of every script."""
    found = {n["pattern"] for s in SCHEMAS.values() for n in nodes(s) if "pattern" in n}
    assert len(found) > 8
    assert [p for p in found if "(?" in p or "\\d" in p or "\\w" in p or "\\u" in p or not p.isascii()] == []


def test_a_type_that_a_schema_cannot_tell_is_refused() -> None:
    class Raw(Inbound):
        day: date

    class Count(Outbound):
        rows: int

    class Good(Outbound):
        rows: Whole
        day: scalars.Day

    for model, hint in ((Raw, "Day"), (Count, "Whole")):
        with pytest.raises(TypeError, match=hint):
            of_model(model, "urn:x")
    assert of_model(Good, "urn:x")


def test_the_index_names_what_there_is() -> None:
    index = json.loads((frozen.FOLDER / frozen.INDEX).read_bytes())
    listed = [f"{t['type']}/{v}.json" for t in index["types"] for v in t["versions"]]
    listed += [f"{f['key']}/{v}.json" for f in index["forms"] for v in f["versions"]]
    there = [str(p.relative_to(frozen.FOLDER)) for p in frozen.FOLDER.rglob("[0-9]*.[0-9]*.json")]
    assert sorted(listed) == sorted(there)
    ids = [json.loads((frozen.FOLDER / path).read_bytes())["$id"] for path in listed]
    assert len(set(ids)) == len(ids)
    assert all(id_.startswith(schemas.URN) for id_ in ids)
