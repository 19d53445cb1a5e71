"""Where a catalogue is kept: the object store of the bus, and a folder when one is configured.

How it is made is in `sheet.py`.
"""

import asyncio
import os
import tempfile
from pathlib import Path

import nats.js.errors
from nats.js import JetStreamContext

from shared.runtime.streams import CATALOGUES


async def to_store(js: JetStreamContext, name: str, data: bytes, sha256: str) -> None:
    """Put the object unless it is there with these bytes; only we write this bucket."""
    bucket = await js.object_store(CATALOGUES)
    try:
        found = await asyncio.wait_for(bucket.get_info(name), 10)
        if (found.headers or {}).get("X-Sha256") == sha256 and found.size == len(data):
            return
    except nats.js.errors.NotFoundError:
        pass
    from nats.js.api import ObjectMeta

    await asyncio.wait_for(
        bucket.put(name, data, meta=ObjectMeta(name=name, headers={"X-Sha256": sha256})), 60
    )


def to_folder(folder: Path, name: str, data: bytes) -> Path:
    """Whole or not at all: a reader of the folder never meets half a file."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / name
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as part:
        part.write(data)
        part.flush()
        os.fsync(part.fileno())
    Path(part.name).chmod(0o644)
    Path(part.name).replace(target)
    return target
