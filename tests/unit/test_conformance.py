"""`yiqi contracts validate`: what another system learns of its own events, in the words of the services.

That the services decide the same is no test here: it is the same decoder. How it reads each type is in `test_schemas.py`.
"""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from services.cli import app
from shared.contracts import frozen
from shared.contracts.registry import EVENTS
from shared.runtime.decode import Dead, Raw, decode
from tests.goldens import PUBLISHED, golden, goldens

run = CliRunner()
BAD = sorted(p for p in PUBLISHED.glob("*/bad/*.json") if not p.name.endswith(".expected.json"))
FILED = golden("cn.gov.gz.sme.submission.filed.v1").with_name("least.json")


def validated(*files: Path | str, stdin: bytes | None = None) -> tuple[int, list[dict[str, Any]]]:
    result = run.invoke(app, ["contracts", "validate", "--json", *map(str, files)], input=stdin)
    return result.exit_code, json.loads(result.stdout)


@pytest.mark.parametrize("file", goldens(), ids=lambda p: f"{p.parts[-3]}/{p.stem}")
def test_what_was_published_once_is_accepted_for_ever(file: Path) -> None:
    """By the services' decoder as it is today, and by every schema of its major version since the one it was made for."""
    status, told = validated(file)
    assert (status, [v["errors"] for v in told]) == (0, [[]])
    document = json.loads(file.read_bytes())
    newest = frozen.read(file.parts[-3], frozen.versions(file.parts[-3])[-1])
    assert [e.message for e in Draft202012Validator(newest).iter_errors(document)] == []


@pytest.mark.parametrize("file", BAD, ids=lambda p: f"{p.parts[-3]}/{p.stem}")
def test_a_bad_example_has_the_faults_that_it_is_kept_for(file: Path) -> None:
    status, (told,) = validated(file)
    expected = json.loads(file.with_name(f"{file.stem}.expected.json").read_bytes())
    assert status == 1
    assert [{"pointer": e["pointer"], "code": e["code"]} for e in told["errors"]] == expected
    assert all(e["detail"] and e["detail_en"] for e in told["errors"])


def test_every_bad_example_says_what_it_is_bad_for() -> None:
    assert len(BAD) > 10
    expected = {p.with_name(p.name.replace(".expected", "")) for p in PUBLISHED.glob("*/bad/*.expected.json")}
    assert expected == set(BAD)


@pytest.mark.parametrize("file", BAD, ids=lambda p: f"{p.parts[-3]}/{p.stem}")
def test_the_schema_refuses_a_bad_example_too(file: Path) -> None:
    schema = frozen.read(file.parts[-3], frozen.versions(file.parts[-3])[-1])
    try:
        document = json.loads(file.read_bytes())
    except ValueError:
        return  # no JSON, of which no schema speaks
    if "not-a-number" in file.name:
        return  # nor is this, although Python reads it
    assert not Draft202012Validator(schema).is_valid(document)


def test_a_service_says_the_same_of_a_bad_example() -> None:
    at = datetime(2025, 3, 5, tzinfo=UTC)
    for file in BAD:
        (type_,) = (e for e in EVENTS if e.ce_type == file.parts[-3])
        raw = Raw(type_.subject("440106"), file.read_bytes(), None, "SME_IN", 1, at)
        assert isinstance(decode(raw, {type_.name: type_}), Dead), file


def test_several_files_lines_and_standard_input(tmp_path: Path) -> None:
    good, bad = json.loads(FILED.read_bytes()), json.loads(BAD[0].read_bytes())
    lines = tmp_path / "events.jsonl"
    lines.write_text("\n".join(json.dumps(d, ensure_ascii=False) for d in (good, bad, good)) + "\n\n")
    status, told = validated(FILED, lines)
    assert status == 1
    assert [(v["file"], v["ok"]) for v in told] == [
        (str(FILED), True),
        (f"{lines}:1", True),
        (f"{lines}:2", False),
        (f"{lines}:3", True),
    ]
    status, told = validated("-", stdin=FILED.read_bytes())
    assert (status, [(v["file"], v["ok"]) for v in told]) == (0, [("标准输入", True)])
    assert validated("-", stdin=lines.read_bytes())[1][1]["file"] == "标准输入:2"


def test_people_read_where_what_and_why_in_two_languages() -> None:
    file = FILED.parent.parent / "bad/missing-and-wrong.json"
    result = run.invoke(app, ["contracts", "validate", str(FILED), str(file)])
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        f"{FILED}：符合 cn.gov.gz.sme.submission.filed.v1",
        f"{file}：2 处错误",
        "  #/data/form  schema.missing  缺少必填字段 / A required field is missing.",
        "  #/data/filer/kind  schema.literal_error  应为以下之一：city、K1、K2、K3、K4、K5、K6"
        " / Must be 'city', 'K1', 'K2', 'K3', 'K4', 'K5' or 'K6'.",
    ]


def test_a_value_is_never_repeated(tmp_path: Path) -> None:
    secret = "13800138000"
    event = json.loads(FILED.read_bytes())
    event["data"] |= {"form": secret * 9, secret: 1, "case": secret}
    event["data"]["values"] = {secret: float("inf"), "a": f"{secret}\0"}
    for body in (json.dumps(event), json.dumps({**event, "data": {**event["data"], "form": "F3"}})):
        file = tmp_path / "event.json"
        file.write_text(body)
        result = run.invoke(app, ["contracts", "validate", str(file)])
        assert result.exit_code == 1
        assert secret not in result.stdout


def test_a_file_that_is_not_there_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    from services.cli import main

    with pytest.raises(SystemExit) as end:
        main(["contracts", "validate", "nowhere.json"])
    assert (end.value.code, capsys.readouterr().err) == (2, "没有文件 nowhere.json\n")


def test_an_example_that_the_services_refuse_would_be_seen(tmp_path: Path) -> None:
    """The negative control of the replay."""
    file = Path(shutil.copy(FILED, tmp_path))
    file.write_text(file.read_text().replace('"form"', '"annex"'))
    assert validated(file)[0] == 1
