"""The job of this room as a job of django-rq, with its effects once for each message."""

from django.conf import settings
from django.db.models import F
from django_rq import job

from aftercommit import once
from shop import models  # the module: it imports this one


@job(settings.PREFIX)
@once
def update_offers(product_id: int) -> None:
    """Reprice all offers of a product, in the transaction that ``@once`` opens."""
    product = models.Product.objects.select_for_update().get(pk=product_id)
    product.offers.update(
        price=product.price * (100 - F("discount")) / 100,
        priced_from=product.price,
        updates=F("updates") + 1,
    )
