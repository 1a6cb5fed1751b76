"""Products, and the offers whose prices follow them."""

from typing import Any

from django.db import models

from demosite.queues import sending, task_of


class Product(models.Model):
    """Something to sell, edited in Django's admin."""

    name = models.CharField(max_length=100)
    price = models.DecimalField(max_digits=8, decimal_places=2)

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save, and bring the offers up to date in a job, as in the story."""
        super().save(*args, **kwargs)
        sending(task_of("shop", "update_offers"))(self.pk)


class Offer(models.Model):
    """A product at a discount; its price is worked out from the product's."""

    product = models.ForeignKey(Product, models.CASCADE, related_name="offers")
    label = models.CharField(max_length=50)
    discount = models.PositiveSmallIntegerField()  # per cent
    price = models.DecimalField(max_digits=8, decimal_places=2, null=True)
    priced_from = models.DecimalField(max_digits=8, decimal_places=2, null=True)
    updates = models.PositiveIntegerField(default=0)  # as many as the product was saved

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.label}: {self.product}"
