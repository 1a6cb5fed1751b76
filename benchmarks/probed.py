"""The probes and the pages that ``benchmarks.probes`` measures."""

import io
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from aftercommit import jobs
from aftercommit.models import Group, Job
from aftercommit.store import store_for
from aftercommit.store.readiness import refusal_of
from aftercommit.windows.doctor import examine

STATES = ("ready", "running", "succeeded", "failed", "cancelled")
FILTERS: dict[str, dict[str, str]] = {
    "all": {},
    "all, oldest first": {"order": "oldest"},
    **{state: {"state": state} for state in STATES},
    "ready, what is due first": {"state": "ready", "order": "due"},
    "ready, oldest first": {"state": "ready", "order": "oldest"},
    "ready, a queue": {"state": "ready", "queue": "queue 8"},
    "ready, a task": {"state": "ready", "task": "shop.tasks.task_7"},
    "failed, oldest first": {"state": "failed", "order": "oldest"},
    "failed, a task": {"state": "failed", "task": "shop.tasks.task_7"},
    "failed, text in the error": {"state": "failed", "error": "order 4711"},
    "failed, text in no error": {"state": "failed", "error": "no such text"},
    "a task": {"task": "shop.tasks.task_7"},
    "no task": {"task": "shop.nowhere"},
    "a queue": {"queue": "queue 8"},
    "a tag": {"tag": "eu"},
    "no tag": {"tag": "nowhere"},
    "text in arguments": {"arguments": "A-99"},
    "text in no arguments": {"arguments": "no such text"},
    "last 15 minutes": {"since": "15m"},
    "last 7 days, oldest first": {"since": "7d", "order": "oldest"},
}
LISTS: dict[str, dict[str, str]] = {
    "all": {},
    "oldest first": {"o": "4"},
    "page 100": {"p": "100"},
    **{one: {"state": one} for one in (*STATES, "due", "later", "retrying")},
    "a queue": {"queue": "queue 8"},
    "a tag": {"tag": "eu"},
    "a search": {"q": "task_7"},
    "a search in vain": {"q": "nowhere"},
}


def probes() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield what a monitor asks, with how it is called."""
    store = store_for("default")
    yield "readyz", lambda: refusal_of("default")
    yield "counts(by='queue')", jobs.counts
    yield "counts(by='queue', most=100)", lambda: jobs.counts(most=100)
    yield "counts(by='task')", lambda: jobs.counts(by="task")
    yield "counts(by='state')", lambda: jobs.counts(by="state")
    yield "oldest_due_age()", jobs.oldest_due_age
    yield "oldest_due_age(queue=)", lambda: jobs.oldest_due_age(queue="queue 8")
    yield "latency()", jobs.latency
    yield "throughput()", jobs.throughput
    yield "statistics()", jobs.statistics
    yield "statistics(over=7 days)", lambda: jobs.statistics(over=timedelta(days=7))
    yield "a worker's look for due queues", store.due_groups
    yield (
        "status --json",
        lambda: call_command("aftercommit", "status", "--json", stdout=io.StringIO()),
    )
    yield "doctor", lambda: list(examine("default"))


def pages() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield the pages with how they are read."""
    client = Client()
    user = User.objects.filter(username="ann").first() or User.objects.create_superuser("ann")
    client.force_login(user)
    for name, address in _addresses():
        yield name, lambda address=address: _read(client, address)


def _read(client: Client, address: str) -> None:
    response = client.get(address)
    if response.status_code != 200:
        raise SystemExit(f"{address} answers {response.status_code}")


def _addresses() -> Iterator[tuple[str, str]]:
    def of(name: str, **given: Any) -> str:
        return reverse(f"aftercommit_dashboard:{name}", kwargs={"using": "default", **given})

    yield "metrics", "/metrics"
    for name in (
        "overview",
        "tasks",
        "queues",
        "schedules",
        "groups",
        "workers",
        "messages",
        "audit",
    ):
        yield f"dashboard: {name}", of(name)
    for over in ("1d", "7d"):
        yield f"dashboard: tasks, {over}", f"{of('tasks')}?over={over}"
    yield "dashboard: group", of("group", group_id=Group.objects.order_by("id")[0].pk)
    for state in STATES:
        first = Job.objects.filter(state=state).order_by("-id")
        yield f"dashboard: job, {state}", of("job", job_id=first[0].pk)
    for name, given in FILTERS.items():
        yield f"dashboard: jobs, {name}", f"{of('jobs')}?{urlencode(given)}"
    for name, given in LISTS.items():
        yield (
            f"admin: jobs, {name}",
            f"{reverse('admin:aftercommit_job_changelist')}?{urlencode(given)}",
        )
    yield "admin: groups", reverse("admin:aftercommit_group_changelist")
    yield "admin: schedules", reverse("admin:aftercommit_schedule_changelist")
