"""`yiqi provision`: everything that the services find ready-made and never make themselves.

What is made is declared in `shared/runtime/streams.py` and the migrations.
"""

from services.cli.common import FINDINGS, console, fail, seed_of
from shared.runtime.accounts import PROVISIONER
from shared.runtime.connection import connect
from shared.runtime.database import migrate
from shared.runtime.settings import Settings
from shared.runtime.streams import Drift
from shared.runtime.streams import provision as provision_streams


async def provision(
    settings: Settings, *, check: bool, replicas: int, age: bool, only: str | None = None
) -> None:
    """Schemas and roles as the owner, then streams, consumers and the bucket; or one of both, for a Job that knows the
    secrets of that one alone. `check` makes nothing, `age` also changes how long existing streams keep what is on them."""
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
        )
    except Drift as drift:
        fail(str(drift), FINDINGS)
    finally:
        await client.close()
    for line in made:
        console.print(f"made {line}")
    console.print("as it should be" if check else "provisioned")
