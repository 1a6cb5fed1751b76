"""The form of a schedule, of admin and dashboard: checked as if it stood in the settings."""

from typing import TYPE_CHECKING, Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from aftercommit import schedules
from aftercommit.enqueue.configured import our_backends
from aftercommit.enqueue.names import OURS
from aftercommit.errors import AftercommitError, Unreadable
from aftercommit.models import Schedule
from aftercommit.schedules.changes import check_edit, check_enable, check_new
from aftercommit.stored import read_arguments
from aftercommit.timing import CATCH_UP, OVERLAP

if TYPE_CHECKING:
    Form = forms.ModelForm[Schedule]
else:
    Form = forms.ModelForm

# What is asked, by the names that the operations give it.
TIMES = ("cron", "timezone", "every", "catch_up", "catch_up_within", "overlap", "jitter")
CALLED = ("args", "kwargs", "queue", "priority")
SPANS = ("every", "catch_up_within", "jitter")
Impossible = (AftercommitError, TypeError, ValueError)


class ScheduleForm(Form):
    """What a schedule says; it is checked as if it stood in the settings."""

    args = forms.JSONField(label=gettext_lazy("positional arguments"), initial=list)
    kwargs = forms.JSONField(label=gettext_lazy("keyword arguments"), initial=dict)
    backend = forms.ChoiceField(label=gettext_lazy("backend"))
    catch_up = forms.ChoiceField(choices=[(one, one) for one in CATCH_UP], initial="last")
    overlap = forms.ChoiceField(choices=[(one, one) for one in OVERLAP], initial="queue")

    class Meta:
        model = Schedule
        fields = ("name", "task_path", "backend", "enabled", *CALLED[2:], *TIMES)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("args", "kwargs"):
            self.fields[name].required = False  # an empty list is "empty" for Django
        if "backend" in self.fields:  # of one that is there it is only shown
            aliases = [one.alias for one in our_backends()]
            self.fields["backend"].choices = [(one, one) for one in aliases]  # type: ignore[attr-defined]
        for name in set(SPANS) & set(self.fields):  # a viewer has none
            self.fields[name].help_text = _("Hours:minutes:seconds, such as 00:05:00.")
        if self.instance.pk is not None:
            self._show_arguments()

    def _show_arguments(self) -> None:
        try:
            self.initial["args"], self.initial["kwargs"] = read_arguments(self.instance.payload)
        except Unreadable as error:
            self.initial["args"] = self.initial["kwargs"] = str(error)

    def options(self) -> dict[str, Any]:
        """Return what the operations take."""
        given = {name: self.cleaned_data.get(name) for name in (*CALLED, *TIMES)}
        given["args"] = [] if given["args"] is None else given["args"]
        given["kwargs"] = {} if given["kwargs"] is None else given["kwargs"]
        for name in ("cron", "timezone"):
            given[name] = given[name] or None
        given["queue"] = given["queue"] or ""
        return given

    def clean(self) -> dict[str, Any]:
        """Refuse what is not possible."""
        cleaned: dict[str, Any] = super().clean() or {}
        if self.errors:
            return cleaned
        self._check_task(cleaned)
        try:
            if self.instance.pk is None:
                self._check_new(cleaned)
            else:
                check_edit(self.instance, **self.options())
                if cleaned["enabled"] and not self.instance.enabled:
                    check_enable(self.instance)
        except Impossible as error:
            self.add_error(None, str(error))
        return cleaned

    def _check_task(self, cleaned: dict[str, Any]) -> None:
        """Refuse a call that names what is to run: it is more than to schedule declared tasks."""
        is_new = self.instance.pk is None
        path = cleaned["task_path"] if is_new else self.instance.task_path
        if path.startswith(OURS) and (is_new or {"args", "kwargs"} & set(self.changed_data)):
            self.add_error(
                None,
                _("The arguments of a task of this package are set by code, or in the settings."),
            )

    def write(self) -> schedules.Schedule:
        """Create the schedule, or change it; raises as the operations do."""
        given, enabled = self.options(), self.cleaned_data["enabled"]
        if self.instance.pk is None:
            named = {"task": "task_path", "backend": "backend"}
            given |= {name: self.cleaned_data[column] for name, column in named.items()}
            return schedules.create(self.cleaned_data["name"], enabled=enabled, **given)
        name, using = self.instance.name, self.instance._state.db
        found = schedules.edit(name, using=using, **given)
        if "enabled" in self.changed_data:
            wanted = schedules.enable if enabled else schedules.disable
            found = wanted(name, using=using)
        return found

    def _check_new(self, cleaned: dict[str, Any]) -> None:
        check_new(
            cleaned["name"],
            task=cleaned["task_path"],
            backend=cleaned["backend"],
            **self.options(),
        )

    def _post_clean(self) -> None:
        """Leave the row as it is: the operation writes it."""
