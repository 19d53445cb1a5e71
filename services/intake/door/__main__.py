"""The door as a process: `python -m services.intake.door`, which is what a container runs.

The command line for people is `services/cli`.
"""

import uvloop

from services.intake.door.serve import run
from shared.runtime.accounts import DOOR
from shared.runtime.logs import configure
from shared.runtime.settings import Settings

if __name__ == "__main__":
    settings = Settings()
    configure(DOOR, settings.log_level)
    uvloop.run(run(settings))
