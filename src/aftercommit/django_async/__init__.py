"""The names of Django Async 0.6 and 0.7, on the tables and workers of aftercommit.

``from aftercommit.django_async import schedule`` in place of ``from async import schedule``. See
docs/how-to/from-django-async.md for what is the same, and what is not.
"""

from aftercommit.django_async.calls import ENDLESS, deschedule, schedule
from aftercommit.django_async.estimates import (
    estimate_current_job_completion,
    estimate_queue_completion,
    estimate_rough_queue_completion,
)
from aftercommit.django_async.groups import Group
from aftercommit.django_async.health import health
from aftercommit.django_async.removal import remove_old_jobs

__all__ = [
    "ENDLESS",
    "Group",
    "deschedule",
    "estimate_current_job_completion",
    "estimate_queue_completion",
    "estimate_rough_queue_completion",
    "health",
    "remove_old_jobs",
    "schedule",
]
