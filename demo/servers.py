"""Where the demo keeps its tables: a SQLite file, or a PostgreSQL server."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from pathlib import Path

from processes import DemoFailed

KINDS = ("sqlite", "postgres")


def variables_for(
    kind: str, *, data: Path, name: str = "aftercommit_demo", throw_away: bool = False
) -> AbstractContextManager[Mapping[str, str]]:
    """Yield the environment variables that lead the demo's settings to its database.

    On PostgreSQL the database ``name`` is made if need be; ``throw_away`` drops it
    afterwards. Raises ``DemoFailed`` where there is no PostgreSQL.
    """
    if kind == "sqlite":
        return nullcontext({})
    try:
        postgres = import_module("postgres")  # psycopg: not needed for SQLite
    except ImportError as error:
        raise DemoFailed(
            f"{error}.\nFix: pip install 'aftercommit[demo]', or take --db sqlite."
        ) from error
    found: AbstractContextManager[Mapping[str, str]]
    found = postgres.database(data=data, name=name, throw_away=throw_away)
    return found
