"""What the examples of the pages store; a page may add models of its own."""

from django.db import models


class Account(models.Model):  # noqa: DJ008
    """Money of a customer."""

    balance = models.IntegerField(default=0)


class Entry(models.Model):  # noqa: DJ008
    """One movement of money."""

    account = models.ForeignKey(Account, models.CASCADE, related_name="entries")
    amount = models.IntegerField()


class Page(models.Model):  # noqa: DJ008
    """A page of the web, and how long it is."""

    url = models.URLField()
    length = models.PositiveIntegerField(null=True)


class Order(models.Model):  # noqa: DJ008
    """What a customer has ordered."""

    email = models.EmailField()
    total = models.DecimalField(max_digits=8, decimal_places=2, default=0)
    paid = models.BooleanField(default=False)
