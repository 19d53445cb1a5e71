"""`yiqi provision`: everything that the services find ready-made and never make themselves.

What is made is declared in `shared/runtime/streams.py` and the migrations.
"""

from collections.abc import Sequence

from services.cli.common import FINDINGS, UNUSABLE, console, fail, seed_of
from shared.runtime.accounts import PROVISIONER
from shared.runtime.connection import connect
from shared.runtime.database import migrate
from shared.runtime.settings import Settings
from shared.runtime.streams import AUDIT, GIB, STREAMS, Drift
from shared.runtime.streams import provision as provision_streams


async def provision(
    settings: Settings,
    *,
    check: bool,
    replicas: int | None,
    age: bool,
    only: str | None = None,
    room: Sequence[str] = (),
) -> None:
    """Schemas and roles as the owner, then streams, consumers and the bucket; or one of both, for a Job that knows the
    secrets of that one alone. `check` makes nothing, `age` also changes how long existing streams keep what is on them, `room` how much."""
    wider = dict(_room(one) for one in room)
    if only != "bus" and not check:
        await migrate(settings.database_url.get_secret_value())
    if only == "database":
        console.print("migrated")
        return
    client = await connect(settings, settings.nats_seed or seed_of(PROVISIONER), PROVISIONER)
    try:
        made = await provision_streams(
            client.jetstream(timeout=10),
            replicas=replicas,
            check=check,
            days=settings.stream_days,
            age=age,
            room=wider,
        )
    except Drift as drift:
        fail(str(drift), FINDINGS)
    finally:
        await client.close()
    for line in made:
        console.print(f"made {line}")
    console.print("as it should be" if check else "provisioned")


def _room(told: str) -> tuple[str, int]:
    name, _, size = told.partition("=")
    if name not in {s.name for s in STREAMS} or not size.isdigit():
        fail(f"--room 应为 流=GiB，如 {AUDIT}=4；有 {'、'.join(str(s.name) for s in STREAMS)}", UNUSABLE)
    return name, int(size) * GIB
