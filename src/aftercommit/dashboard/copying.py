"""Enqueues a call anew, with what somebody has changed in it."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from django import forms
from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from aftercommit._compat import InvalidTask
from aftercommit.dashboard.visit import Visit
from aftercommit.enqueue.called import declared_task
from aftercommit.enqueue.names import OURS
from aftercommit.enqueue.sealing import MARK
from aftercommit.enqueue.versions import upgrade_of
from aftercommit.errors import AftercommitError, Unreadable
from aftercommit.models import Job
from aftercommit.stored import loaded_secrets, read_arguments, without_version

LONGEST_WAIT = 366 * 24 * 60  # minutes
Impossible = (AftercommitError, InvalidTask, ImproperlyConfigured, TypeError, ValueError)


def _few_lines() -> forms.Textarea:
    return forms.Textarea(attrs={"rows": 4, "spellcheck": "false"})


def can_copy(job: Job) -> bool:
    """Return whether people may enqueue a job with other arguments.

    Not one of this package's own tasks: their arguments name a function that is to run, or are a
    mail or a message, which is more than a permission to enqueue declared tasks again.
    """
    return not str(job.task_path).startswith(OURS)


class CopyForm(forms.Form):
    """The arguments, and where and when the copy is to run."""

    args = forms.JSONField(
        label=gettext_lazy("Positional arguments"), required=False, widget=_few_lines()
    )
    kwargs = forms.JSONField(
        label=gettext_lazy("Keyword arguments"), required=False, widget=_few_lines()
    )
    queue = forms.CharField(label=gettext_lazy("Queue"), max_length=100, strip=False)
    priority = forms.IntegerField(label=gettext_lazy("Priority"), min_value=-100, max_value=100)
    minutes = forms.IntegerField(
        label=gettext_lazy("Run in so many minutes"),
        min_value=0,
        max_value=LONGEST_WAIT,
        required=False,
    )

    def __init__(self, data: Any, *, job: Job) -> None:
        self.job = job
        self.task = declared_task(without_version(job.task_path))
        queue = job.queue if job.queue.isprintable() else ""
        super().__init__(data, initial={"queue": queue, "priority": job.priority})
        self._fill()

    def _fill(self) -> None:
        """Show the arguments of the job, as the present version of its task takes them."""
        try:
            args, kwargs = read_arguments(self.job.payload)
            upgrade = None if self.task is None else upgrade_of(self.task, self.job.task_path)
            if upgrade is not None:
                args, kwargs = upgrade(args, kwargs)
        except (Unreadable, AftercommitError):
            args, kwargs = [], {}
        self.initial.update(args=args, kwargs=kwargs)

    @property
    def has_secrets(self) -> bool:
        """Whether arguments are secrets, which nobody can copy."""
        return bool(loaded_secrets(self.job.payload))

    def clean(self) -> dict[str, Any]:
        """Refuse what cannot be enqueued."""
        cleaned: dict[str, Any] = super().clean() or {}
        args, kwargs = cleaned.get("args"), cleaned.get("kwargs")
        cleaned["args"] = [] if args is None else args
        cleaned["kwargs"] = {} if kwargs is None else kwargs
        if not isinstance(cleaned["args"], list):
            self.add_error("args", _('Expected a list in JSON, such as [1, "a"].'))
        if not isinstance(cleaned["kwargs"], dict):
            self.add_error("kwargs", _('Expected an object in JSON, such as {"id": 1}.'))
        if self.task is None:
            self.add_error(None, _("No code here declares this task, so it cannot be enqueued."))
        if self.has_secrets or MARK in str((args, kwargs)):
            self.add_error(
                None, _("Some of its arguments are secrets: enqueue such a call by code.")
            )
        return cleaned


def enqueue(visit: Visit, form: CopyForm) -> UUID | None:
    """Enqueue what the form says; None, and an error of the form, if that is not possible."""
    given = form.cleaned_data
    options: dict[str, Any] = {
        "backend": form.job.backend,  # of this database
        "queue_name": given["queue"],
        "priority": given["priority"],
    }
    if given["minutes"]:
        options["run_after"] = visit.store.now() + timedelta(minutes=given["minutes"])
    try:
        with visit.store.writing():
            result = form.task.using(**options).enqueue(*given["args"], **given["kwargs"])
            visit.record(
                "enqueue",
                subject=str(result.id),
                details={"task": form.task.module_path, "queue": given["queue"]},
                found=1,
                changed=1,
            )
    except Impossible as error:
        form.add_error(None, str(error))
        return None
    return UUID(str(result.id))
