"""Orders of a shop."""

from django.db import models


class Order(models.Model):
    mailed = models.BooleanField(default=False)

    def __str__(self):
        return f"order {self.pk}"
