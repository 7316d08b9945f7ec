"""Changes of a constraint in SQLite, for migrations: SQLite cannot change one, and recreating the table would drop the
one that foreign keys and the user's own views refer to.
"""

from __future__ import annotations

import sqlalchemy as sa


def replace_in_schema(connection: sa.Connection, table: str, old: str, new: str) -> None:
    """Replace a part of a table's definition, as SQLite documents for changes that do not affect the rows
    (lang_altertable.html, section 7), within the current transaction.

    Raises:
        RuntimeError: the table's definition does not contain `old`.
    """
    version = connection.exec_driver_sql("PRAGMA schema_version").scalar_one()
    connection.exec_driver_sql("PRAGMA writable_schema = ON")
    changed = connection.exec_driver_sql(
        "UPDATE sqlite_master SET sql = replace(sql, ?, ?) WHERE type = 'table' AND name = ? AND instr(sql, ?) > 0",
        (old, new, table, old),
    )
    if changed.rowcount != 1:
        raise RuntimeError(f"table {table} has no constraint {old}")
    # Another number makes every other connection read the schema again; RESET makes this one do so.
    connection.exec_driver_sql(f"PRAGMA schema_version = {version + 1}")
    connection.exec_driver_sql("PRAGMA writable_schema = RESET")
