"""Other names of functions, as far as the store was told of them."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from aquasurf_ray.store.database.schema import Alias
from aquasurf_ray.store.verbs.fence import StoreCore, chunks


class AliasVerbs(StoreCore):
    """Reading aliases."""

    def aliases(self, function_ids: Iterable[int]) -> dict[int, tuple[str, ...]]:
        """The other names of these functions, in alphabetical order; functions without one are left out."""
        wanted = sorted(set(function_ids))

        def body(connection: sa.Connection) -> dict[int, tuple[str, ...]]:
            found: dict[int, tuple[str, ...]] = {}
            for part in chunks(wanted):
                query = sa.select(Alias.function_id, Alias.name).where(Alias.function_id.in_(part)).order_by(Alias.name)
                for row in connection.execute(query):
                    found[row.function_id] = (*found.get(row.function_id, ()), row.name)
            return found

        return self._read(body)
