"""For developers: lets Alembic's own command write or check a migration by comparing the models with a database.

    alembic -c store/migrations/alembic.ini -x url=sqlite:///scratch.db revision --autogenerate -m "What changes"

The database is brought to the last migration first. The program itself never comes here: it migrates in
`store.database.migrate`.
"""

from __future__ import annotations

from alembic import context

from aquasurf_ray.store.database.engine import WRITES, make_engine
from aquasurf_ray.store.database.migrate import upgrade
from aquasurf_ray.store.database.schema import VERSION_TABLE, Base
from aquasurf_ray.store.database.url import parse_url


def run() -> None:
    """Hands Alembic the database that `-x url=...` names."""
    engine = make_engine(parse_url(context.get_x_argument(as_dictionary=True)["url"]))
    with engine.execution_options(**{WRITES: True}).connect() as connection:
        with connection.begin():
            upgrade(connection)
        with connection.begin():
            context.configure(
                connection=connection, target_metadata=Base.metadata, version_table=VERSION_TABLE, render_as_batch=True
            )
            context.run_migrations()


run()
