"""The one clock of a service, which the demo and the tests can shift.

Pure modules do not use it: they take the time as an argument.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path


class Clock:
    """`now()` is the system's time plus the seconds in a file, read again whenever the file changes."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._stamp = -1
        self._offset = timedelta()

    @property
    def offset(self) -> timedelta:
        if self._path is not None:
            stamp = self._path.stat().st_mtime_ns
            if stamp != self._stamp:
                self._offset = timedelta(seconds=float(self._path.read_text() or 0))
                self._stamp = stamp
        return self._offset

    def now(self) -> datetime:
        return datetime.now(UTC) + self.offset
