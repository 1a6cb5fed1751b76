"""The tenant that a connection of django-tenants, or one of its kind, is set to.

Such a connection sends ``SET search_path`` by itself, from an attribute that outlives the
driver's connection.
"""

from typing import Any, NamedTuple


class Tenant(NamedTuple):
    """What a connection was set to."""

    tenant: Any
    schema: Any
    include_public: bool


def tenant_of(connection: Any) -> Tenant | None:
    """Return what a connection is set to; None if it knows no tenants."""
    if not hasattr(connection, "set_schema_to_public"):
        return None
    return Tenant(
        getattr(connection, "tenant", None),
        getattr(connection, "schema_name", None),
        getattr(connection, "include_public_schema", True),
    )


def return_to(connection: Any, before: Tenant | None) -> bool:
    """Set a connection to what it was set to before; return whether it was set to another."""
    if before is None or tenant_of(connection) == before:
        return False
    if before.tenant is None:
        connection.set_schema_to_public()
    else:
        connection.set_tenant(before.tenant, include_public=before.include_public)
    return True
