"""The demo's round with every service run from the image, as pods: `make image`.

The round itself is the demo's, unchanged; a test of a minute is in `test_image.py`.
"""

import sys
from pathlib import Path

from deploy.image import build
from services.cli.demo import run
from tests.deploy.contained import Contained

if __name__ == "__main__":
    build.build()
    sys.exit(run(Path(sys.argv[1] if sys.argv[1:] else "var/image"), place=Contained))
