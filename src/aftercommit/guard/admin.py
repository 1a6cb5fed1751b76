"""The findings in Django's admin: to be read, and deleted when they are mended."""

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.http import HttpRequest

from aftercommit.guard.models import StoredFinding

if TYPE_CHECKING:
    Base = admin.ModelAdmin[StoredFinding]
else:
    Base = admin.ModelAdmin


@admin.register(StoredFinding)
class StoredFindingAdmin(Base):
    """Places, the most frequent first."""

    list_display = ("place", "rule", "subject", "count", "first_seen", "last_seen")
    list_filter = ("rule", "adapter")
    search_fields = ("path", "subject", "function")
    fields = (
        *("rule", "adapter", "subject", "place", "report"),
        *("count", "first_seen", "last_seen"),
    )
    readonly_fields = fields

    @admin.display(ordering="path")
    def place(self, row: StoredFinding) -> str:
        """Return the file, the line and the function."""
        return f"{row.path}:{row.line} in {row.function}"

    def has_add_permission(self, request: HttpRequest, *_: Any) -> bool:
        """Return False: only the guard writes them."""
        return False

    def has_change_permission(self, request: HttpRequest, *_: Any) -> bool:
        """Return False: they say what has happened."""
        return False
