"""A panel for django-debug-toolbar: what a request has enqueued, and what became of it."""

from contextvars import ContextVar
from typing import Any

from debug_toolbar.panels import Panel
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from aftercommit._compat import task_enqueued

COMMITTED, ROLLED_BACK = _("committed"), _("rolled back")
MOST_SHOWN = 200  # jobs of one request
LONGEST = 200  # characters of the arguments of a job

_present: ContextVar["list[dict[str, Any]] | None"] = ContextVar(
    "aftercommit_toolbar", default=None
)


def _note(task_result: Any, **_: Any) -> None:
    """Note a job of the present request; and its commit, which a rollback never lets happen."""
    jobs = _present.get()
    if jobs is None:
        return
    task = task_result.task
    job = {
        "id": task_result.id,
        "task": task.module_path,
        "arguments": _arguments(task_result)[:LONGEST],
        "queue": task.queue_name,
        "priority": task.priority,
        "run_after": task.run_after,
        "committed": False,
    }
    jobs.append(job)
    using = getattr(task.get_backend(), "using", None)
    transaction.on_commit(lambda: job.update(committed=True), using=using)


def _arguments(task_result: Any) -> str:
    args = [repr(one) for one in task_result.args]
    return ", ".join([*args, *(f"{name}={one!r}" for name, one in task_result.kwargs.items())])


class JobsPanel(Panel):  # type: ignore[misc] # of a library without types
    """The jobs that a request has enqueued: each with its arguments and when it is due."""

    title = _("Jobs")
    template = "aftercommit/debug_toolbar.html"
    is_async = True

    @classmethod
    def ready(cls) -> None:
        """Note what is enqueued, if a request that shows the panel does it."""
        task_enqueued.connect(_note, dispatch_uid="aftercommit.integrations.debug_toolbar")

    @property
    def nav_subtitle(self) -> str:
        """How many jobs the request has enqueued, and how many were rolled back."""
        stats = self.get_stats()
        number, lost = stats.get("number", 0), stats.get("rolled_back", 0)
        text = ngettext("%(number)d job", "%(number)d jobs", number) % {"number": number}
        return f"{text}, {lost} {ROLLED_BACK}" if lost else text

    def enable_instrumentation(self) -> None:
        """Begin to note."""
        self._jobs: list[dict[str, Any]] = []
        _present.set(self._jobs)

    def disable_instrumentation(self) -> None:
        """End it."""
        _present.set(None)

    def generate_stats(self, _request: Any, _response: Any) -> None:
        """Keep what is shown; the transactions of the request have ended by now."""
        jobs = getattr(self, "_jobs", [])
        now = timezone.now()
        self.record_stats(
            {
                "number": len(jobs),
                "rolled_back": sum(not one["committed"] for one in jobs),
                "jobs": [_shown(one, now) for one in jobs[:MOST_SHOWN]],
            }
        )


def _shown(job: dict[str, Any], now: Any) -> dict[str, Any]:
    due = job["run_after"]
    when = str(_("as soon as a worker is free"))
    if not job["committed"]:
        when = str(_("never"))
    elif due is not None and due > now:
        when = timezone.localtime(due).isoformat(sep=" ", timespec="seconds")
    state = COMMITTED if job["committed"] else ROLLED_BACK
    return {**job, "run_after": None, "when": when, "state": str(state)}
