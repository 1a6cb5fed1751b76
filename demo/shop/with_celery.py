"""The job of this room as a task of Celery, with its effects once for each message."""

from celery import shared_task
from django.db.models import F

from aftercommit import once
from shop import models  # the module: it imports this one


@shared_task
@once
def update_offers(product_id: int) -> None:
    """Reprice all offers of a product, in the transaction that ``@once`` opens."""
    product = models.Product.objects.select_for_update().get(pk=product_id)
    product.offers.update(
        price=product.price * (100 - F("discount")) / 100,
        priced_from=product.price,
        updates=F("updates") + 1,
    )
