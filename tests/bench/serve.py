"""One service as a process, without the workers that send mail: `python -m tests.bench.serve notify`.

The chain that is measured ends with the mail in the ledger; SMTP is a matter of the relay.
"""

import sys
from importlib import import_module

import uvloop

from shared.runtime.logs import configure
from shared.runtime.settings import Settings


def main(name: str) -> None:
    settings = Settings()
    configure(name, "WARNING")
    service = import_module(f"services.{name}.handlers").service
    service.tasks = ()
    uvloop.run(service.run(settings))


if __name__ == "__main__":
    main(sys.argv[1])
