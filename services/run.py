"""One service as a process: `python -m services.run intake`. Imports that service and no other.

The command line for people is `services/cli`.
"""

import sys
from importlib import import_module

import uvloop

from shared.runtime.logs import configure
from shared.runtime.settings import Settings


def main(name: str) -> None:
    settings = Settings()
    configure(name, settings.log_level)
    uvloop.run(import_module(f"services.{name}.handlers").service.run(settings))


if __name__ == "__main__":
    main(sys.argv[1])
