"""One service as a process: `python -m services.run intake`. Imports that service and no other.

The command line for people is `services/cli`.
"""

import ctypes
import sys
from importlib import import_module

import uvloop

from shared.runtime.logs import configure
from shared.runtime.settings import Settings

M_MMAP_THRESHOLD, LARGE = -3, 128 * 1024
"""glibc's own default. It raises it to the largest block that was ever freed, and keeps in the heap what is smaller: a
service that has once read files of 20 MB would hold 50 MB more for good."""


def main(name: str) -> None:
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):  # not in musl, which has no such habit
        mallopt(M_MMAP_THRESHOLD, LARGE)
    settings = Settings()
    configure(name, settings.log_level)
    uvloop.run(import_module(f"services.{name}.handlers").service.run(settings))


if __name__ == "__main__":
    main(sys.argv[1])
