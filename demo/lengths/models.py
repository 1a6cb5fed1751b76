"""A page whose length somebody wants to know."""

from django.db import models


class Page(models.Model):
    """An address, the job that fetches it, and what it found."""

    url = models.URLField(max_length=500)
    created = models.DateTimeField(auto_now_add=True)
    job_id = models.UUIDField(null=True, editable=False)
    length = models.PositiveBigIntegerField(null=True, editable=False)  # bytes
    # How often a length was stored: 1, however often the worker died meanwhile.
    stored = models.PositiveIntegerField(default=0, editable=False)

    def __str__(self) -> str:
        return self.url
