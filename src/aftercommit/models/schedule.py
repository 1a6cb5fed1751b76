"""Periodic tasks: when they are due, and which moments have become jobs."""

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from aftercommit.models.portable import Count, Name, Tags
from aftercommit.models.readable import Identity, Moment


class Schedule(models.Model):
    """When a task is due, again and again: declared in code or settings, or made by people."""

    class Source(models.TextChoices):
        """Who has declared it."""

        CODE = "code", _("Code")
        SETTINGS = "settings", _("Settings")
        PEOPLE = "people", _("People")

    name = Name(max_length=255, unique=True)
    source = Name(max_length=10, choices=Source)
    enabled = models.BooleanField(default=True)
    task_path = Name(max_length=255)
    backend = Name(max_length=100, default="default")
    queue = Name(max_length=100, default="", blank=True)  # empty: that of the task
    priority = models.SmallIntegerField(null=True, blank=True)
    payload = models.TextField(default='{"args": [], "kwargs": {}}')  # JSON
    cron = models.CharField(max_length=255, default="", blank=True)
    every = models.DurationField(null=True, blank=True)
    timezone = models.CharField(max_length=64, default="", blank=True)
    catch_up = models.CharField(max_length=4, default="last")
    catch_up_within = models.DurationField(null=True, blank=True)
    overlap = models.CharField(max_length=5, default="queue")
    jitter = models.DurationField(null=True, blank=True)
    # What code or settings say. Rows of people have no digest.
    declared = models.TextField(null=True)  # noqa: DJ001 - JSON
    digest = models.CharField(max_length=64, default="")  # of the declaration in force
    former = Tags(null=True)  # digests of declarations that were in force before
    declared_at = Moment(null=True)  # since when it is in force
    seen_at = Moment(null=True)  # when a worker last said that it declares the same
    ended_at = Moment(null=True)  # no worker declares it any more
    edited = Tags(null=True)  # columns that people have changed since
    next_run = Moment(null=True)  # NULL: disabled, ended, or never again
    last_run = Moment(null=True)  # the latest moment that became a job
    last_job_id = Identity(null=True)
    missed = Count(default=0)  # moments that were left out, because no worker was there
    skipped = Count(default=0)  # moments that were left out, because a job had not ended
    problem = models.TextField(default="", blank=True)  # why the present moment became no job
    created_at = Moment()
    changed_at = Moment()

    class Meta:
        verbose_name = _("schedule")
        verbose_name_plural = _("schedules")
        permissions: ClassVar = [("run_schedule", "Can run schedules now")]
        indexes: ClassVar = [
            models.Index(fields=["next_run"], name="aftercommit_schedule_next"),
        ]

    def __str__(self) -> str:
        return str(self.name)


class Tick(models.Model):
    """One moment of a schedule, written in the transaction that inserts its job."""

    schedule = Name(max_length=255)  # its name: a schedule that is removed and made anew goes on
    moment = Moment()
    job_id = Identity(null=True)  # NULL: left out, because the job before had not ended

    class Meta:
        verbose_name = _("tick")
        verbose_name_plural = _("ticks")
        default_permissions = ("view",)
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["schedule", "moment"], name="aftercommit_tick_once")
        ]

    def __str__(self) -> str:
        return f"{self.schedule} {self.moment}"
