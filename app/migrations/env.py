"""Alembic environment: runs migrations on a given connection, or on DATABASE_URL for the alembic command."""

import asyncio
import os

from alembic import context
from sqlalchemy import Connection

from app.config.environment import parse_database_url
from app.database.engine import create_engine
from app.database.tables import metadata


def _run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        render_as_batch=connection.dialect.name == "sqlite",
        compare_type=True,
    )
    with context.begin_transaction():
        context.run_migrations()


async def _run_alone() -> None:
    engine = create_engine(parse_database_url(os.environ.get("DATABASE_URL", "sqlite:///data/lifecycle.db")))
    async with engine.begin() as connection:
        await connection.run_sync(_run)
    await engine.dispose()


given = context.config.attributes.get("connection")
if given is None:
    asyncio.run(_run_alone())
else:
    _run(given)
