"""The tenants."""

from django_tenants.models import DomainMixin, TenantMixin


class Client(TenantMixin):
    """A customer with a schema of its own."""

    auto_create_schema = False


class Domain(DomainMixin):
    """An address of a customer."""
