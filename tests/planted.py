"""What has the shape of a person's number or address, wherever it is found.

Planting one, and looking where it has come to, is not here: `tests/chaos/test_personal.py`.
"""

import re
from collections.abc import Iterator
from pathlib import Path

SHAPED = re.compile(
    r"(?<![0-9a-fA-F.-])(?:1[3-9]\d{9}|\d{17}[\dXx])(?![0-9a-fA-F])|[\w.+-]+@[A-Za-z0-9-]+\.[A-Za-z]{2,}"
)
"""Any mobile number, e-mail address or identity number; not within a UUID, a fraction or a hash."""


def named_in_logs(folder: Path) -> Iterator[str]:
    """Lines of service logs below a folder that tell a number or an address."""
    for log in sorted(folder.rglob("*.log")):
        if not log.is_symlink() and log.is_file():
            for n, line in enumerate(log.read_text(errors="replace").splitlines(), 1):
                if SHAPED.search(line):
                    yield f"{log.relative_to(folder)}:{n}"
