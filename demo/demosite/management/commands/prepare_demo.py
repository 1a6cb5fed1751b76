"""Make the tables, the products and the user ``admin``."""

from decimal import Decimal
from typing import Any

from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.db import transaction

from shop.models import Product

PASSWORD = "demo"  # of a site that only this computer can reach
PRODUCTS = {"Espresso machine": "480.00", "Coffee grinder": "129.00", "Kettle": "59.90"}
OFFERS = {"Regular": 0, "Members": 10, "Students": 25, "Last piece": 50}


class Command(BaseCommand):
    """Make what is not there yet, so that it may run at every start."""

    help = str(__doc__)

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it; what is there already is left alone."""
        call_command("migrate", verbosity=0)
        if not User.objects.filter(username="admin").exists():
            User.objects.create_superuser("admin", "admin@demo.example", PASSWORD)
        if not Product.objects.exists():
            for name, price in PRODUCTS.items():
                _add_product(name, Decimal(price))


@transaction.atomic
def _add_product(name: str, price: Decimal) -> None:
    product = Product.objects.create(name=name, price=price)
    for label, discount in OFFERS.items():
        product.offers.create(label=label, discount=discount)
