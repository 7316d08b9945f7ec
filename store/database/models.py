"""Tables written as classes, in the notation of SQLAlchemy's declarative models, which type checkers take them for.

The store has no sessions and no mapped objects, and importing `sqlalchemy.orm` and mapping the tables took a third of
the time of a short command. So `DeclarativeBase` makes nothing but a plain `Table` from the annotated columns of a
class: `Alias.name` is a `Column`, `Alias.__table__` the table, and statements take the class for the table.
"""

from __future__ import annotations

from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from sqlalchemy import Boolean, Column, MetaData, Table

if TYPE_CHECKING:
    from sqlalchemy.orm import DeclarativeBase as DeclarativeBase
    from sqlalchemy.orm import Mapped as Mapped
    from sqlalchemy.orm import mapped_column as mapped_column
else:
    Mapped = Column

    class mapped_column:
        """The settings of a column, which is made when its name and annotation are known."""

        def __init__(self, *arguments: Any, **options: Any) -> None:
            self.arguments, self.options = arguments, options

    class DeclarativeBase:
        """The base of `Base`, which has the metadata of all tables and the types of columns by annotation."""

        metadata: MetaData
        type_annotation_map: dict[Any, Any]

        def __init_subclass__(cls) -> None:
            """Make the table of a class that names one, and replace the settings of each column with the column."""
            if not hasattr(cls, "__tablename__"):
                return
            hints = get_type_hints(cls)
            types = {bool: Boolean, **cls.type_annotation_map}
            columns = [_column(name, hints[name], vars(cls).get(name), types) for name in cls.__annotations__]
            cls.__table__ = Table(cls.__tablename__, cls.metadata, *columns, *getattr(cls, "__table_args__", ()))
            for column in columns:
                setattr(cls, column.name, column)

        @classmethod
        def __clause_element__(cls) -> Table:
            """Return the table: SQLAlchemy calls a method of this name of whatever a statement is given."""
            return cls.__table__


def _column(name: str, hint: Any, settings: Any, types: dict[Any, Any]) -> Column[Any]:
    (annotation,) = get_args(hint)
    kinds = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    given: Any = settings or mapped_column()
    # A kind that is not in the map, such as dict[str, Any], has its type among the arguments.
    known = [types[kind] for kind in kinds if kind in types]
    return Column(name, *known, *given.arguments, nullable=NoneType in kinds, **given.options)
