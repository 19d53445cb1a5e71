"""Keys and accounts of the bus: made once, kept, never shown; what each may do is proven in tests/chaos."""

import re
from pathlib import Path

import nkeys
import pytest

from services import cli
from services.cli import common
from services.cli.nats import ACCOUNTS, PUBLIC, SEEDS, keep, read, usable
from shared.runtime.accounts import USERS, allowed, text
from shared.runtime.files import OURS

CODES = ("440100", "440106", "gsl")
NEW = '[{"code": "new-one", "kind": "K1", "name": "新单位", "short": "新单位", "source": "试验"}]'


def own_key(byte: bytes) -> tuple[str, str]:
    """(seed, public key) as an agency makes them on its own machine."""
    seed = nkeys.encode_seed(byte * 32, nkeys.PREFIX_BYTE_USER)
    return seed.decode(), nkeys.from_seed(bytearray(seed)).public_key.decode()


def account(config: str, code: str) -> str:
    found = re.search(rf'^  "{code}" {{\n.*?^  }}$', config, re.MULTILINE | re.DOTALL)
    assert found, code
    return found[0]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> "Run":
    monkeypatch.chdir(tmp_path)  # where no `yiqi up` has left its settings
    return Run(tmp_path, monkeypatch, capsys)


class Run:
    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.out, self.monkeypatch, self.capsys = folder / "nats", monkeypatch, capsys

    def __call__(self, *options: str, agencies: str | None = None) -> tuple[int, str]:
        if agencies:
            file = self.out.parent / "agencies.yaml"
            file.write_text(agencies)
            self.monkeypatch.setenv("YIQI_AGENCIES", str(file))
        common.settings.cache_clear()
        common.directory.cache_clear()
        with pytest.raises(SystemExit) as end:
            cli.main(["nats", "config", "--out", str(self.out), *options])
        common.settings.cache_clear()
        common.directory.cache_clear()
        told = self.capsys.readouterr()
        assert isinstance(end.value.code, int)
        return end.value.code, told.out + told.err

    def config(self) -> str:
        return (self.out / ACCOUNTS).read_text()


def test_keys_are_made_once_and_kept(tmp_path: Path) -> None:
    first = keep(tmp_path, CODES)
    assert set(first.made) == {*USERS, *CODES}
    written = (tmp_path / ACCOUNTS).read_text()
    second = keep(tmp_path, CODES)
    assert (second.keys, second.made, second.changed) == (first.keys, (), ())
    assert (tmp_path / ACCOUNTS).read_text() == written


def test_a_seed_that_was_handed_over_is_not_made_again(tmp_path: Path) -> None:
    first = keep(tmp_path, CODES)
    (tmp_path / SEEDS / "440106.nk").unlink()
    assert keep(tmp_path, CODES).keys == first.keys
    assert not (tmp_path / SEEDS / "440106.nk").exists()


def test_a_lost_seed_is_made_anew_when_its_line_is_taken_out(tmp_path: Path) -> None:
    first = keep(tmp_path, CODES)
    (tmp_path / SEEDS / "440106.nk").unlink()
    lines = (tmp_path / PUBLIC).read_text().splitlines(keepends=True)
    (tmp_path / PUBLIC).write_text("".join(line for line in lines if not line.startswith("440106 ")))
    second = keep(tmp_path, CODES)
    assert second.made == ("440106",)
    assert {who for who in first.keys if first.keys[who] != second.keys[who]} == {"440106"}


def test_a_new_agency_only_adds(tmp_path: Path) -> None:
    keep(tmp_path, CODES)
    before = (tmp_path / ACCOUNTS).read_text()
    assert keep(tmp_path, (*CODES, "new-one")).made == ("new-one",)
    after = (tmp_path / ACCOUNTS).read_text()
    for code in CODES:
        assert account(before, code) == account(after, code)
    # The desk spoke for it as long as it had no account; now the door may.
    gone = [line for line in before.splitlines() if line not in after.splitlines()]
    assert [line.strip()[:26] for line in gone] == ['publish: {allow: ["sme.in.'] * 2
    assert allowed("door", CODES).publish == tuple(
        f"sme.{cls}.v1.{code}.>" for code in CODES for cls in ("in", "file", "ask")
    )
    assert '"sme.in.v1.new-one.>"' not in before


def test_only_public_keys_leave_the_folder_of_seeds(tmp_path: Path) -> None:
    kept = keep(tmp_path, CODES)
    for path in (tmp_path / SEEDS).iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.read_text().strip() not in (tmp_path / ACCOUNTS).read_text()
        assert path.read_text().strip() not in (tmp_path / PUBLIC).read_text()
    assert (tmp_path / SEEDS).stat().st_mode & 0o777 == 0o700
    assert all(usable(key) for key in kept.keys.values())
    assert {p.name for p in tmp_path.iterdir()} == {ACCOUNTS, PUBLIC, SEEDS}


def test_an_agency_brings_its_own_key(run: Run) -> None:
    seed, public = own_key(b"a")
    file = run.out.parent / "brought.txt"
    file.write_text(f"# 天河区\n440106 {public}\n")
    status, said = run("--public", str(file))
    assert (status, "已换公钥" in said) == (0, False)
    assert f"nkey: {public}" in account(run.config(), "440106")
    assert not (run.out / SEEDS / "440106.nk").exists()
    other = own_key(b"b")[1]
    file.write_text(f"440106 {other}\n")
    status, said = run("--public", str(file))
    assert (status, "已换公钥 440106" in said) == (0, True)
    assert public not in run.config()
    assert read(run.out / PUBLIC)["440106"] == other
    assert seed not in said


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("440106", "第1行：应为“代码 公钥”"),
        (f"440106 {own_key(b'a')[0]}", "第1行：应为“代码 公钥”"),  # a seed, which is nobody else's business
        (f"440106 {own_key(b'a')[1][:-1]}A", "第1行：应为“代码 公钥”"),  # mistyped
        (f"440999 {own_key(b'a')[1]}", "440999 不在单位名录中"),
        (f"440106 {own_key(b'a')[1]}\n440106 {own_key(b'b')[1]}", "第2行：440106 重复"),
    ],
)
def test_what_is_no_public_key_is_refused_and_not_shown(run: Run, line: str, words: str) -> None:
    file = run.out.parent / "brought.txt"
    file.write_text(line + "\n")
    status, said = run("--public", str(file))
    assert status == 2
    assert words in said
    assert own_key(b"a")[0] not in said
    assert not run.out.exists()


def test_the_command_says_what_to_do_next_and_shows_no_seed(run: Run) -> None:
    status, said = run()
    assert status == 0
    assert all(word in said for word in ("账户配置", "include", "seeds", "YIQI_NATS_SEED", "当面"))
    assert not re.search("SU[A-Z2-7]{50}", said)
    assert run(agencies=NEW)[0] == 0
    assert account(run.config(), "new-one")


def test_no_agency_has_the_token_of_our_own_files() -> None:
    with pytest.raises(ValueError, match=OURS):
        text((OURS,), {})


def test_only_the_desk_has_a_list_of_what_is_refused() -> None:
    assert {user for user in USERS if allowed(user, CODES).unpublish} == {"desk"}
    for user in USERS:
        may = allowed(user, CODES)
        assert ">" not in (*may.publish, *may.subscribe)
        assert not any(s.startswith(("$SYS", "$JS.API.>")) for s in may.publish)
