"""Which typefaces a PDF is set in, and which characters they have.

The office's own typefaces come from a folder that it names; the free ones for them come with two packages. How a
page is set is in `pdf.py`.
"""

import logging
import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

from fontTools.ttLib import TTCollection, TTFont

log = logging.getLogger(__name__)

FREE = ("pylopdf_fonts_zh_cn", "noto_cjk_sans_otc")
"""Packages with Noto Serif SC, and with Noto Sans CJK, which has 44,810 characters."""
REST = ("Noto Serif SC", "Noto Sans CJK SC")
STACKS: dict[str, tuple[str, ...]] = {
    "fang": ("FangSong_GB2312", "仿宋_GB2312", "FangSong", "FandolFang R", "FandolFang", *REST),
    "song": ("FZXiaoBiaoSong-B05S", "方正小标宋简体", "FZXiaoBiaoSong-B05", *REST),
    "hei": ("SimHei", "黑体", "FandolHei", "Noto Sans CJK SC"),
    "kai": ("KaiTi_GB2312", "楷体_GB2312", "KaiTi", "FandolKai", *REST),
    "number": ("SimSun", "宋体", *REST),
}
"""Role and typefaces, the official one first (GB/T 9704); a character that one does not have is taken from the next."""

# Joiners and selectors of variants: they have no picture of their own.
_SILENT = re.compile("[\u00ad\u200b-\u200d\u2060\ufe00-\ufe0f\ufeff\U000e0100-\U000e01ef\n]")


class NoFont(Exception):
    """没有可用的中文字体"""


@dataclass(frozen=True)
class Fonts:
    """Folders of fonts, the families found in them, and the characters that every role can show; `digest` is of the
    office's own."""

    folders: tuple[Path, ...]
    stacks: dict[str, tuple[str, ...]]
    characters: frozenset[int]
    digest: str = ""

    def codes(self, letters: Collection[str]) -> dict[int, str]:
        """For `str.translate`: `〔U+1F600〕` for what no typeface has: nobody reads a blank or a box as if nothing were
        there."""
        missing = [c for c in letters if ord(c) not in self.characters and not _SILENT.match(c)]
        if missing:
            log.warning("no font has some characters; their codes are printed")
        return {ord(c): f"〔U+{ord(c):04X}〕" for c in missing}


@cache
def fonts(folder: Path | None = None) -> Fonts:
    """Those of the folder, and the free ones; read once."""
    folders = [Path(str(files(package))) for package in FREE]
    digest = sha256()
    if folder is not None:
        if not folder.is_dir():
            raise NoFont(f"没有字体文件夹：{folder}")
        folders.insert(0, folder)
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() in _KINDS:
                digest.update(path.name.encode() + path.read_bytes())
    families: dict[str, frozenset[int]] = {}
    for path in sorted(p for one in folders for p in one.rglob("*") if p.suffix.lower() in _KINDS):
        for name, characters in _faces(path):
            families[name] = families.get(name, frozenset()) | characters
    stacks = {role: tuple(name for name in stack if name in families) for role, stack in STACKS.items()}
    for role, stack in stacks.items():
        if not stack:
            raise NoFont(f"没有可用的中文字体（{role}）：请安装 {'、'.join(FREE)}，或在字体文件夹中放入字体")
    # Every stack ends with the widest face, so what that and the serif have all roles can show.
    characters = frozenset.intersection(
        *(frozenset().union(*(families[name] for name in stack)) for stack in stacks.values())
    )
    return Fonts(tuple(folders), stacks, characters, digest.hexdigest() if folder else "")


_WANTED = frozenset(name for stack in STACKS.values() for name in stack)
_KINDS = {".otf", ".ttf", ".ttc", ".otc"}


def _faces(path: Path) -> list[tuple[str, frozenset[int]]]:
    """The families of the file that some role asks for, and their characters."""
    with path.open("rb") as stream:
        collection = path.suffix.lower() in {".ttc", ".otc"}
        faces = TTCollection(stream, lazy=True).fonts if collection else [TTFont(stream, lazy=True)]
        found = []
        for face in faces:
            names = {record.toUnicode() for record in face["name"].names if record.nameID == 1}
            if wanted := names & _WANTED:
                characters = frozenset(face.getBestCmap())
                found += [(name, characters) for name in sorted(wanted)]
        return found
