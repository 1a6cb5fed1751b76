"""Imports the queued jobs of Django Async 0.6 and 0.7 from its tables."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db import transaction

from aftercommit._compat import task_backends
from aftercommit.django_async.calls import ENDLESS
from aftercommit.enqueue.functions import schedule
from aftercommit.enqueue.group_references import end_with
from aftercommit.enqueue.group_results import GroupResult
from aftercommit.errors import AftercommitError, ConfigurationError
from aftercommit.ids import new_job_id
from aftercommit.options.backoff import Polynomial
from aftercommit.store import store_for
from aftercommit.store.async_tables import AsyncTables, OldJob

LOWEST, HIGHEST = -100, 100


@dataclass(slots=True, kw_only=True)
class Imported:
    """What was imported, and what was not."""

    jobs: int = 0
    groups: int = 0
    refused: dict[str, str] = field(default_factory=dict)  # functions, and why
    left: int = 0  # jobs of theirs


class Importing:
    """Imports from one database, in one transaction."""

    def __init__(self, using: str, *, backend: str = "default") -> None:
        chosen = task_backends[backend]
        if getattr(chosen, "using", None) != using:
            raise ConfigurationError(
                f"TASKS[{backend!r}] keeps no jobs in the database {using!r}, where the tables "
                "of Django Async are: no transaction holds both. Nothing was imported. Name "
                "another backend, or copy the tables."
            )
        self._using = using
        self._backend = backend
        self._tables = AsyncTables(using)
        self._done = Imported()
        self._new: dict[int, UUID] = {}  # by the old id

    def run(self, *, leave: bool = False, dry_run: bool = False) -> Imported:
        """Import what was neither executed nor cancelled.

        If a function may not be run here, nothing is imported, unless ``leave``: then its jobs
        are left where they are. ``dry_run``: the transaction is rolled back.
        """
        with transaction.atomic(using=self._using):
            jobs = self._tables.lock_unfinished()
            for job in jobs:
                self._import(job)
            if self._done.refused and not leave:
                transaction.set_rollback(True, using=self._using)
                return self._done
            self._import_groups([job for job in jobs if job.id in self._new])
            self._tables.mark_taken(list(self._new))
            transaction.set_rollback(dry_run, using=self._using)
        return self._done

    def _import(self, job: OldJob) -> None:
        try:
            with transaction.atomic(using=self._using):
                result = schedule(
                    job.name,
                    json.loads(job.args or "[]"),
                    json.loads(job.kwargs or "{}"),
                    priority=min(max(job.priority, LOWEST), HIGHEST),
                    run_after=job.scheduled,
                    meta={**_object(job.meta), "django_async": job.id},
                    backend=self._backend,
                    max_attempts=ENDLESS,
                    backoff=Polynomial(),
                )
        except (AftercommitError, TypeError, ValueError) as error:
            self._done.refused[job.name] = str(error).partition("\n")[0]
            self._done.left += 1
            return
        self._new[job.id] = UUID(result.id)
        self._done.jobs += 1

    def _import_groups(self, jobs: Sequence[OldJob]) -> None:
        store = store_for(self._using)
        errors = self._tables.failures([job.id for job in jobs])
        members: defaultdict[int, list[UUID]] = defaultdict(list)
        for job in jobs:
            if job.group_id is not None:
                members[job.group_id].append(self._new[job.id])
        for old in self._tables.groups(list(members)):
            row = store.insert_group(
                new_job_id(),
                name=old.reference,
                description=old.description or "",
                meta={"django_async": old.id},
            )
            store.adopt(row.id, members[old.id])
            self._done.groups += 1
            if old.final_id in self._new:
                end_with(GroupResult(row, using=self._using), self._new[old.final_id])
        # Last: a job that has failed runs behind it waits for nothing more.
        store.had_failed({self._new[one]: number for one, number in errors.items()})


def _object(text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
