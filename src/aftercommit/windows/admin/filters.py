"""The filters of the page of jobs: database, state and queue."""

from collections.abc import Iterable, Iterator
from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy

from aftercommit.enqueue.configured import configured_queues
from aftercommit.models import Job, State
from aftercommit.options.tags import is_tag
from aftercommit.store import store_for
from aftercommit.store.clock import DatabaseNow
from aftercommit.store.criteria import Criteria
from aftercommit.store.selecting import condition
from aftercommit.windows.databases import databases

# What ready jobs wait for: a slot of a worker, their time, or their next attempt.
KINDS = {
    "due": gettext_lazy("due"),
    "later": gettext_lazy("later"),
    "retrying": gettext_lazy("retrying"),
}


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
        """Return all states, and what ready jobs wait for."""
        first, *others = State.choices
        kinds = [(name, f"\u00a0\u00a0{title}") for name, title in KINDS.items()]
        return [first, *kinds, *others]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Job]) -> QuerySet[Job]:
        """Filter by the state."""
        state = self.value()
        if state is None:
            return queryset
        if state == State.RUNNING:
            return store_for(queryset.db).running_of(queryset)
        # Indexes have these states by what else is true; the others are found by the primary key.
        flags: dict[str, Q] = {
            State.READY: Q(claimable=True) | Q(blocked__isnull=False) | Q(line__isnull=False),
            State.FAILED: Q(unsuccessful=True),
            State.CANCELLED: Q(unsuccessful=True),
        }
        if state in KINDS:
            of_kind = {
                "due": Q(run_after__lte=DatabaseNow()),
                "later": Q(run_after__gt=DatabaseNow(), attempts=0),
                "retrying": Q(run_after__gt=DatabaseNow(), attempts__gt=0),
            }
            return queryset.filter(flags[State.READY], of_kind[state], state=State.READY)
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
