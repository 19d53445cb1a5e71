"""The roles that an operator makes once (`roles.sql`) are enough: the owner migrates as no superuser, services stay apart."""

from pathlib import Path

import asyncpg
import pytest

import dev
from shared.runtime import SERVICES
from shared.runtime.database import head, migrate
from shared.runtime.embedded import Postgres

ROLES = dev.ROOT / "deploy/kustomize/components/roles/roles.sql"


@pytest.fixture
def postgres(tmp_path: Path) -> Postgres:
    """A server of its own: roles belong to all of it, and another test's may have made them already."""
    return Postgres(tmp_path / "postgres")


async def test_the_owner_migrates_with_the_roles_that_were_made_for_it(postgres: Postgres) -> None:
    postgres.start()
    try:
        postgres.sql("create role yiqi login password 'owner'")
        postgres.create_database("yiqi", owner="yiqi")
        owner = postgres.dsn("yiqi", "yiqi", "owner")
        # Without them the owner may make no role: that is what the file is for.
        with pytest.raises(Exception, match="permission denied to create role"):
            await migrate(owner)
        postgres.sql(ROLES.read_text(), "yiqi")
        for service in SERVICES:
            postgres.sql(f"alter role yiqi_{service} password '{service}'")
        await migrate(owner)
        await migrate(owner)  # the Job of the next release
        for service in SERVICES:
            connection = await asyncpg.connect(postgres.dsn("yiqi", f"yiqi_{service}", service))
            revision = f"select version_num from {service}.alembic_version"
            assert await connection.fetchval(revision) == head(service)
            other = SERVICES[SERVICES.index(service) - 1]
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.fetchval(f"select count(*) from {other}.inbox")
            await connection.close()
    finally:
        postgres.stop()
