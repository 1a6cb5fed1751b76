"""``find_races()`` and ``assert_no_race()``: a body under each schedule, against the expected."""

from collections.abc import Collection, Iterator, Mapping, MutableSequence, Sequence
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import Any

from asgiref.sync import async_to_sync
from django.apps import apps
from django.core import mail
from django.db.models import Model

from aftercommit.errors import ConfigurationError
from aftercommit.reproduce.comparing import Comparison
from aftercommit.reproduce.copies import base_of, copy_of, mirrors, usable_aliases
from aftercommit.reproduce.report import Race
from aftercommit.reproduce.rows import comparable
from aftercommit.reproduce.runs import Body, Result, Stage
from aftercommit.reproduce.schedules import Plan, Schedule, schedules_named
from aftercommit.under_test import refuse_without_test_run

MOST_TRANSACTIONS = 5  # of a body, to which something happens: the first of them


@dataclass(frozen=True, slots=True)
class Findings:
    """What ``find_races()`` has found."""

    expected: Result  # under the schedule late
    races: tuple[Race, ...]

    @property
    def dispatched(self) -> bool:
        """Whether anything was dispatched at all."""
        return bool(self.expected.dispatches)

    def __str__(self) -> str:
        """Return the reports of all races."""
        return "\n\n".join(map(str, self.races))


def assert_no_race(
    body: Body,
    *,
    schedules: Collection[str] = ("all",),
    models: Collection[type[Model] | str] | None = None,
    effects: Mapping[str, MutableSequence[Any]] | None = None,
    ignore: Collection[str] = (),
    replicas: Mapping[str, str] | None = None,
) -> None:
    """Assert that a function has the same result whenever the worker runs its tasks.

    Takes the arguments of ``find_races()``. Raises ``AssertionError`` with a report of each
    schedule that leads to another result, or if nothing was dispatched; what the function itself
    raises under the schedule *late*; and what ``find_races()`` raises.
    """
    __tracebackhide__ = True
    findings = find_races(
        body,
        schedules=schedules,
        models=models,
        effects=effects,
        ignore=ignore,
        replicas=replicas,
    )
    if findings.expected.error is not None:
        raise findings.expected.error
    if not findings.dispatched:
        raise AssertionError(
            "assert_no_race(): the function dispatched no task, so there was nothing to try.\n"
            "Fix: call it with arguments for which it does; docs/how-to/reproduce-the-race.md "
            "names the libraries that are known."
        )
    if findings.races:
        raise AssertionError(str(findings))


def find_races(
    body: Body,
    *,
    schedules: Collection[str] = ("all",),
    models: Collection[type[Model] | str] | None = None,
    effects: Mapping[str, MutableSequence[Any]] | None = None,
    ignore: Collection[str] = (),
    replicas: Mapping[str, str] | None = None,
) -> Findings:
    """Run a function under each schedule; return where its result is another than expected.

    It runs in copies of the test's databases, with real commits and each task on a connection of
    its own, and each time from the rows that the test's connection sees; the test's own
    transaction is not touched. Expected is what is there when tasks run right after the commit
    (*late*). Compared are exceptions, the tasks that ran, rows and effects.

    ``body``: a function without arguments, also of ``async def``: calls a view, a service, a
    management command.
    ``schedules``: names of them, or ``all``: early, rollback, crash, twice, stale. ``models``:
    whose rows are compared, as classes or ``app.Model``; None: all tables but this package's own.
    ``effects``: lists to which fakes append, by names for the report, such as
    ``{"payments": fake.calls}``; ``mail.outbox`` is among them. ``ignore``: tables, or columns as
    ``table.column``. ``replicas``: the primary's alias by each replica's, for *stale*, beside
    those of ``TEST["MIRROR"]`` in DATABASES. Without any, *stale* is left out.

    Raises ``ConfigurationError`` if no test run is on, for a schedule that does not exist, for a
    database that cannot be copied, for a task that does not end in a minute, or for tasks that
    dispatch each other without end.
    """
    refuse_without_test_run("find_races()")
    if iscoroutinefunction(body):
        body = async_to_sync(body)
    wanted = schedules_named(schedules)
    lagging = {**mirrors(), **(replicas or {})}
    copies = [copy_of(alias) for alias in usable_aliases() if alias not in lagging]
    lists = {"mail": mail.outbox} if hasattr(mail, "outbox") else {}
    stage = Stage(
        copies=copies,
        base=base_of(copies),
        effects={**lists, **(effects or {})},
        replicas=lagging,
    )
    compare = Comparison(copies, comparable(wanted=_classes(models), ignore=ignore))
    return races_on(stage, body, wanted, compare)


def races_on(
    stage: Stage, body: Body, wanted: Sequence[Schedule], compare: Comparison
) -> Findings:
    """Run a function under each schedule; see ``find_races()``."""
    expected = stage.run(body, Plan(Schedule.LATE))
    return Findings(expected, tuple(_races(stage, body, expected, wanted, compare)))


def _races(
    stage: Stage,
    body: Body,
    expected: Result,
    wanted: Sequence[Schedule],
    compare: Comparison,
) -> Iterator[Race]:
    quiet: Comparison | None = None
    for plan in _plans(expected, wanted, has_replicas=bool(stage.replicas)):
        found = stage.run(body, plan)
        reference = _reference(stage, body, expected, plan)
        if not compare.differences(reference, found):
            continue
        if quiet is None:  # columns that differ by themselves, such as random tokens
            again = stage.run(body, Plan(Schedule.LATE))
            quiet = compare.without(compare.noise(expected, again))
        if differences := quiet.differences(reference, found):
            yield Race(plan.schedule, tuple(differences), found, expected)


def _plans(expected: Result, wanted: Sequence[Schedule], *, has_replicas: bool) -> Iterator[Plan]:
    """Yield the runs that may end differently, as far as the expected one tells."""
    inside = {one.transaction for one in expected.dispatches if one.transaction is not None}
    after = {one.after for one in expected.dispatches if one.transaction is None and one.after}
    after |= {number for number, callbacks in expected.callbacks.items() if callbacks}
    for schedule in wanted if expected.dispatches else ():
        match schedule:
            case Schedule.ROLLBACK:
                yield from (Plan(schedule, at) for at in sorted(inside)[:MOST_TRANSACTIONS])
            case Schedule.CRASH:
                yield from (Plan(schedule, at) for at in sorted(after)[:MOST_TRANSACTIONS])
            case Schedule.EARLY if not inside:
                continue  # every task ran at its dispatch already
            case Schedule.STALE if not has_replicas:
                continue
            case _:
                yield Plan(schedule)


def _reference(stage: Stage, body: Body, expected: Result, plan: Plan) -> Result:
    """Return what is right: after a crash, what was there when the next transaction began."""
    if plan.schedule is not Schedule.CRASH or plan.at is None or plan.at >= len(expected.begun):
        return expected
    return stage.run(body, Plan(Schedule.LATE, stop_before=plan.at + 1))


def _classes(
    names: Collection[type[Model] | str] | None,
) -> list[type[Model]] | None:
    if names is None:
        return None
    try:
        return [apps.get_model(one) if isinstance(one, str) else one for one in names]
    except (LookupError, ValueError) as error:
        raise ConfigurationError(
            f"find_races(): models: {error}. Nothing was run. Fix: name models of the project."
        ) from error
