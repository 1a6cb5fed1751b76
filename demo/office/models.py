"""What is imported, and what is sent to a provider."""

from django.db import models
from django.db.models.functions import Now

ONE_BY_ONE, TOGETHER = "one by one", "together"  # two ways to write rows


class Import(models.Model):
    """A file, and the group of jobs that reads it: one job for each line."""

    name = models.CharField(max_length=100)
    created = models.DateTimeField(auto_now_add=True)
    group_id = models.UUIDField(null=True, editable=False)
    summary = models.CharField(max_length=200, blank=True, editable=False)

    def __str__(self) -> str:
        return self.name


class Article(models.Model):
    """What a line of a file says."""

    source = models.ForeignKey(Import, models.CASCADE, related_name="articles")
    line = models.PositiveIntegerField()
    name = models.CharField(max_length=100)
    price = models.DecimalField(max_digits=8, decimal_places=2)

    class Meta:
        # A line that was stored twice would be an error, not a second article.
        constraints = [models.UniqueConstraint(fields=["source", "line"], name="once")]

    def __str__(self) -> str:
        return self.name


class Message(models.Model):
    """A message for an account at a provider."""

    account = models.CharField(max_length=20)
    created = models.DateTimeField(auto_now_add=True)
    refused = models.PositiveIntegerField(default=0)  # answers 429
    sent = models.PositiveIntegerField(default=0)  # how often the provider took it

    def __str__(self) -> str:
        return f"{self.account}: {self.pk}"


class Report(models.Model):
    """What a nightly report has found."""

    created = models.DateTimeField(auto_now_add=True)
    due = models.DateTimeField(null=True)  # the moment that it was for
    text = models.CharField(max_length=200)

    def __str__(self) -> str:
        return self.text


class Race(models.Model):
    """Rows that are written twice: by a job for each, and by many jobs in one call."""

    created = models.DateTimeField(db_default=Now())
    rows = models.PositiveIntegerField()  # of each way

    def __str__(self) -> str:
        return f"{self.rows} rows in two ways"


class Reading(models.Model):
    """One of these rows."""

    race = models.ForeignKey(Race, models.CASCADE, related_name="readings")
    way = models.CharField(max_length=10)
    number = models.PositiveIntegerField()
    written = models.DateTimeField(db_default=Now())  # of its statement

    class Meta:
        # A row that was written twice would be an error.
        constraints = [models.UniqueConstraint(fields=["race", "way", "number"], name="a_row")]

    def __str__(self) -> str:
        return f"{self.way}: {self.number}"
