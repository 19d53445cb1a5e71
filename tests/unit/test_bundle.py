"""Bundles: the same files are the same bytes, other readers open them, and no change of a byte goes unnoticed."""

import subprocess
import zipfile
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.export.bundle import MANIFEST, SUMS, THEN, Broken, digest, opened, pack, seal, unpack

FILES = {"附件3-活动清单.xlsx": b"\x00one", "子目录/b.json": b"{}", "a.txt": "𠮷".encode()}
SEALED = seal("collection", {"notice": {"id": "n"}}, FILES)


def test_the_same_files_are_the_same_bytes_in_whatever_order_they_come() -> None:
    backwards = dict(reversed(FILES.items()))
    again = pack(seal("collection", {"notice": {"id": "n"}}, backwards))
    assert again == pack(SEALED)
    assert digest(again) == "4aaad750a233a6ae54251089a0e48ec555589bd43b4a6bd649f356dfafa68430"


def test_another_reader_finds_the_files_with_their_names(tmp_path: Path) -> None:
    with zipfile.ZipFile(BytesIO(pack(SEALED))) as archive:
        assert archive.testzip() is None
        assert {one.date_time for one in archive.infolist()} == {THEN}
        archive.extractall(tmp_path)
    told = subprocess.run(
        ["sha256sum", "-c", SUMS], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (told.returncode, told.stdout.count(": OK")) == (0, len(FILES) + 1)


def test_what_was_sealed_is_good() -> None:
    manifest = opened(unpack(pack(SEALED)))
    assert (manifest.kind, [part.name for part in manifest.files]) == ("collection", sorted(FILES))
    assert manifest.model_extra == {"notice": {"id": "n"}}


@pytest.mark.parametrize("name", SEALED)
def test_a_changed_a_missing_and_an_added_file_are_told_by_name(name: str) -> None:
    with pytest.raises(Broken):
        opened({**SEALED, name: SEALED[name] + b" "})
    with pytest.raises(Broken, match="不完整"):
        opened({key: data for key, data in SEALED.items() if key != name})
    with pytest.raises(Broken, match="多出清单上没有的 more"):
        opened({**SEALED, "more": b""})


@given(st.integers(min_value=0), st.integers(min_value=1, max_value=255))
def test_no_changed_byte_goes_unnoticed(place: int, by: int) -> None:
    """Wherever it is in the ZIP: what it is read as is broken, or is what was sealed."""
    content = bytearray(pack(SEALED))
    content[place % len(content)] ^= by
    try:
        files = unpack(bytes(content))
        opened(files)
    except (Broken, UnicodeDecodeError, OSError):
        return
    assert files == SEALED


@pytest.mark.parametrize("content", [b"", b"PK", b"no zip", pack(SEALED)[:-30]])
def test_what_is_no_zip_is_told_so(content: bytes) -> None:
    with pytest.raises(Broken, match="ZIP"):
        unpack(content)


def test_a_compressed_one_and_a_repeated_name_are_not_ours() -> None:
    content = BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MANIFEST, "a" * 1000)
    with pytest.raises(Broken, match="压缩"):
        unpack(content.getvalue())
