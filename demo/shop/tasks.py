"""The job of this room."""

from django.db.models import F

from aftercommit import task
from shop import models  # the module: it imports this one


@task(atomic=True)
def update_offers(product_id: int) -> None:
    """Reprice all offers of a product: the new prices and "done" are one commit."""
    # Locked, or of two jobs at once the one that read the older price may write last.
    product = models.Product.objects.select_for_update().get(pk=product_id)
    product.offers.update(
        price=product.price * (100 - F("discount")) / 100,
        priced_from=product.price,
        updates=F("updates") + 1,
    )
