"""Where products are edited."""

import time
from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from shop.models import Offer, Product


class OfferInline(admin.TabularInline):
    """The offers of a product, to look at."""

    model = Offer
    fields = readonly_fields = ["label", "discount", "price", "priced_from", "updates"]
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Product | None = None) -> bool:
        """Offers come with the demo."""
        return False


@admin.register(Product)
class ProductAdmin(admin.ModelAdmin):
    """Change a price and save: the job of ``Product.save()`` does the rest."""

    list_display = ["name", "price"]
    inlines = [OfferInline]

    def save_related(self, *args: Any) -> None:
        """Take the story's second, with the transaction of the admin still open.

        Elsewhere the task has started in ``save()`` and now reads the old price.
        """
        super().save_related(*args)
        time.sleep(1)
