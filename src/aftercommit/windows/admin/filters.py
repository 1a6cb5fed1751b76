"""The filters of the page of jobs: database, state and queue."""

from collections.abc import Iterable, Iterator
from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy

from aftercommit.enqueue.configured import configured_queues, job_aliases
from aftercommit.models import Job, State
from aftercommit.options.tags import is_tag
from aftercommit.store import default_alias, store_for
from aftercommit.store.criteria import Criteria
from aftercommit.store.selecting import condition


def databases() -> list[str]:
    """Return the aliases that contain jobs; the one where the router writes them is first."""
    usual = default_alias()
    return sorted(job_aliases() or [usual], key=lambda alias: alias != usual)


class KnownFilter(admin.SimpleListFilter):
    """A filter that ignores values that it does not offer."""

    def value(self) -> str | None:
        """Return the chosen value, if the filter offers it."""
        value = super().value()
        return value if value in dict(self.lookup_choices) else None


class DatabaseFilter(KnownFilter):
    """Jobs of one database alias; jobs of several databases are never shown together."""

    title = gettext_lazy("database")
    parameter_name = "database"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the aliases, if there is a choice."""
        first, *others = databases()
        return [(alias, alias) for alias in (first, *others)] if others else []

    def choices(self, changelist: Any) -> Iterator[Any]:
        """Return the choices of the page: one alias, and never all."""
        chosen = self.value() or databases()[0]
        for alias, title in self.lookup_choices:
            address = changelist.get_query_string({self.parameter_name: alias})
            yield {"selected": alias == chosen, "query_string": address, "display": title}

    def queryset(self, request: HttpRequest, queryset: QuerySet[Job]) -> QuerySet[Job]:
        """Query the chosen database."""
        alias = self.value()
        return queryset if alias is None else queryset.using(alias)


class StateFilter(KnownFilter):
    """Jobs in one state."""

    title = gettext_lazy("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[Any, Any]]:
        """Return all states."""
        return State.choices

    def queryset(self, request: HttpRequest, queryset: QuerySet[Job]) -> QuerySet[Job]:
        """Filter by the state."""
        state = self.value()
        if state is None:
            return queryset
        # Indexes have these states by what else is true; the others are found by the primary key.
        flags: dict[str, Q] = {
            State.READY: Q(claimable=True) | Q(blocked__isnull=False) | Q(line__isnull=False),
            State.FAILED: Q(unsuccessful=True),
            State.CANCELLED: Q(unsuccessful=True),
        }
        return queryset.filter(flags.get(state, Q()), state=state)


class TagFilter(KnownFilter):
    """Jobs with a tag; the one of the request is offered, which a link beside a job has named."""

    title = gettext_lazy("tag")
    parameter_name = "tag"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the tag of the request if it can be one."""
        return [(name, name) for name in self.used_parameters.values() if is_tag(name)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Job]) -> QuerySet[Job]:
        """Filter by the tag, which reads the table."""
        name = self.value()
        return queryset if name is None else queryset.filter(condition(Criteria(tag=name)))


class QueueFilter(KnownFilter):
    """Jobs of one queue; the settings' queues and all queues with ready jobs are offered."""

    title = gettext_lazy("queue")
    parameter_name = "queue"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the queues, and the queue of the request if it can be a name."""
        asked = self.used_parameters.values()
        names = {*configured_queues(), *(name for name in asked if name.isprintable())}
        for alias in databases():
            names.update(store_for(alias).queues())
        return [(name, name) for name in sorted(names)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Job]) -> QuerySet[Job]:
        """Filter by the queue."""
        name = self.value()
        return queryset if name is None else queryset.filter(queue=name)
