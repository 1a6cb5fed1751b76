"""The products with their offers, as customers see them."""

from decimal import Decimal

from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from demosite.queues import task_of
from demosite.source import source_of
from shop.models import Offer, Product


@require_safe
@transaction.non_atomic_requests
def show(request: HttpRequest) -> HttpResponse:
    """Show all products."""
    products = [
        {
            "pk": product.pk,
            "name": product.name,
            "price": _euros(product.price),
            "offers": [_row(offer, product) for offer in product.offers.all()],
        }
        for product in _products()
    ]
    context = {
        "products": products,
        "source": source_of(Product.save, task_of("shop", "update_offers")),
    }
    return render(request, "shop/shop.html", context)


@require_safe
@transaction.non_atomic_requests
def rows(request: HttpRequest) -> JsonResponse:
    """Tell the present prices."""
    products = list(_products())
    return JsonResponse(
        {
            "rows": {
                f"offers-{product.pk}": [_row(offer, product) for offer in product.offers.all()]
                for product in products
            },
            "texts": {f"price-{product.pk}": _euros(product.price) for product in products},
        }
    )


def _products() -> QuerySet[Product]:
    return Product.objects.order_by("pk").prefetch_related("offers")


def _row(offer: Offer, product: Product) -> dict[str, str]:
    current = offer.priced_from == product.price
    return {
        "key": str(offer.pk),
        "state": "succeeded" if current else "ready",
        "label": offer.label,
        "discount": f"{offer.discount} %",
        "price": _euros(offer.price),
        "priced_from": _euros(offer.priced_from),
        "updates": str(offer.updates),
        "progress": "up to date" if current else "waiting for its job",
    }


def _euros(amount: Decimal | None) -> str:
    return "" if amount is None else f"€ {amount:,.2f}"
