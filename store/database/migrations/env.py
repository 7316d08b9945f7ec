"""Alembic runs this file for `store.database.migrate`, and for a developer who writes or checks a migration:

    alembic -c store/database/migrations/alembic.ini -x url=sqlite:///scratch.db upgrade head
    alembic -c store/database/migrations/alembic.ini -x url=sqlite:///scratch.db revision --autogenerate -m "Title"

The second command compares the models with the scratch database that the first one brought to the last migration.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context

from aquasurf_ray.store.database.engine import WRITES, make_engine
from aquasurf_ray.store.database.schema import VERSION_TABLE, Base
from aquasurf_ray.store.database.url import parse_url


def run_on(connection: sa.Connection) -> None:
    """Run the command's migrations. The caller's transaction makes all of them take place, or none."""
    context.configure(
        connection=connection, target_metadata=Base.metadata, version_table=VERSION_TABLE, render_as_batch=True
    )
    context.run_migrations()


def run_for_developer() -> None:
    """Run the command on the database that `-x url=...` names."""
    engine = make_engine(parse_url(context.get_x_argument(as_dictionary=True)["url"]))
    with engine.execution_options(**{WRITES: True}).connect() as connection, connection.begin():
        run_on(connection)


given = context.config.attributes.get("connection")
if given is None:
    run_for_developer()
else:
    run_on(given)
