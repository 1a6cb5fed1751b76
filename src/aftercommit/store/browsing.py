"""Pages of jobs for people: sorted, filtered, and never more than so many rows read.

Jobs that wait, run or have failed are found by the indexes that have them. All others are found
by a walk through the primary key, which is in the order of enqueueing. A walk for rare jobs stops
after ``MOST_WINDOWS`` windows, and its page says from where it can be continued.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import CharField, F, QuerySet
from django.db.models.functions import Cast, Left, Length, Right

from aftercommit.models import Blocked, Dependency, Job, State
from aftercommit.store.criteria import Criteria
from aftercommit.store.held_back import PARKED_IN, HeldBackJobs
from aftercommit.store.measuring import TaskDepth
from aftercommit.store.rules import pause_of
from aftercommit.store.selecting import ONE_WINDOW, Selecting, condition
from aftercommit.values import TASK

MOST_WINDOWS = 5  # of ONE_WINDOW rows each
MOST_SORTED = 10_000  # jobs of one kind that are found without the order of the primary key
MOST_ASIDE = 1_000  # jobs of paused tasks
LARGE = ("payload", "result", "errors", "headers")
HEAD, TAIL = 400, 4_000  # characters of the arguments and of the errors that a page needs
NEWEST, OLDEST, DUE = "newest", "oldest", "due"


class JobPage(NamedTuple):
    """A page of jobs, without the columns that may be large.

    Each has ``payload_head``, ``payload_size`` and ``errors_tail`` instead.
    """

    jobs: list[Job]
    next: UUID | None  # the next page begins behind this id; None: there is none
    is_cut: bool  # the walk has stopped, though there may be more


class Browsing(Selecting):
    """Reads pages of jobs."""

    # Other parts of the store.
    held_back: Callable[..., HeldBackJobs]
    waiting_by_task: Callable[..., list[TaskDepth]]
    _running: Callable[[], QuerySet[Job]]

    def browse(
        self,
        wanted: Criteria,
        *,
        size: int,
        order: str = NEWEST,
        behind: UUID | None = None,
    ) -> JobPage:
        """Return up to ``size`` jobs that meet the criteria.

        ``order``: ``newest`` or ``oldest`` first, by the time of enqueueing; ``due``: what is due
        first, only if no more than ``MOST_SORTED`` jobs of each kind wait, else as ``newest``.
        ``behind``: the last id of the page before; not for ``due``, which has one page only.
        """
        places = self._places_of(wanted)
        if places is None:
            return self._walk_pages(wanted, size=size, newest=order != OLDEST, behind=behind)
        if order == DUE:
            ids = _first(places, condition(wanted), F("run_after").asc(), size)
            found = sorted(self._shown(ids), key=lambda row: (row.run_after, row.id))
            return JobPage(found[:size], None, len(found) > size)
        newest = order != OLDEST
        which = condition(wanted)
        if behind is not None:
            places = [rows.filter(**_behind(behind, newest)) for rows in places]
        # By the text of the id: by the column, the planner may walk the whole primary key.
        text = Cast("id", CharField(max_length=36))
        ids = _first(places, which, text.desc() if newest else text.asc(), size)
        ids = sorted(ids, reverse=newest)
        following = ids[size - 1] if len(ids) > size else None
        return JobPage(_in_order(self._shown(ids[:size]), newest), following, False)

    def count_some(self, wanted: Criteria) -> tuple[int, bool]:
        """Return how many jobs meet the criteria as far as is looked; True: there may be more."""
        places = self._places_of(wanted)
        if places is not None:
            return sum(rows.filter(condition(wanted)).count() for rows in places), False
        found, after = 0, None
        for _window in range(MOST_WINDOWS):
            end = self.end_of_window(after, wanted)
            rows = self._walked(wanted)
            rows = rows if after is None else rows.filter(id__gt=after)
            rows = rows if end is None else rows.filter(id__lte=end)
            found += rows.filter(condition(wanted)).count()
            if end is None:
                return found, False
            after = end
        return found, True

    def end_of_window(self, after: UUID | None, wanted: Criteria) -> UUID | None:
        """Return the id up to which one statement reads for these criteria; None: to the end."""
        rows = self._walked(wanted)
        rest = rows if after is None else rows.filter(id__gt=after)
        ends = list(rest.order_by("id").only("id")[ONE_WINDOW - 1 : ONE_WINDOW])
        return ends[0].id if ends else None

    def last_id(self) -> UUID | None:
        """Return the highest id of a job."""
        row = self._jobs.order_by("-id").only("id").first()
        return None if row is None else row.id

    def id_so_far_back(self, number: int) -> UUID | None:
        """Return the id of a job that so many are newer than; None if there are not so many."""
        found = list(self._jobs.order_by("-id").only("id")[number : number + 1])
        return found[0].id if found else None

    def _places_of(self, wanted: Criteria) -> list[QuerySet[Job]] | None:
        """Return where indexes have all that may be wanted, few each; None: walk instead."""
        if wanted.ids is not None:
            return [self._jobs.filter(id__in=wanted.ids)]
        if wanted.states == (State.RUNNING,):
            return [self._running()]
        if wanted.states != (State.READY,):
            return None
        # Of what no statement below could read all: the newest are found by the walk.
        held = self.held_back("queue", most=MOST_SORTED)
        ready = sum(one.ready for one in self.waiting_by_task(most=MOST_SORTED))
        if max(ready, *(sum(some.values()) for some in held)) >= MOST_SORTED:
            return None
        in_turn = self._jobs.filter(blocked=Blocked.FAIR, state=State.READY)
        if list(in_turn.order_by("limit_key").only("id")[MOST_SORTED : MOST_SORTED + 1]):
            return None
        parked = [self._jobs.filter(blocked=one, state=State.READY) for one in PARKED_IN]
        return [self._claimable(), *parked, in_turn, *self._jobs_aside()]

    def _jobs_aside(self) -> list[QuerySet[Job]]:
        """Return the jobs of paused tasks, which no flag names."""
        rules = self.rules()
        paths = set() if rules is None else {one.name for one in rules.pauses if one.kind == TASK}
        if rules is None or not paths.union(rules.resumed):
            return []
        pauses = [pause_of(one) for one in paths.union(rules.resumed)]
        waits = Dependency.objects.using(self.alias).filter(needs_id__in=pauses)
        ids = list(waits.values_list("job_id", flat=True)[:MOST_ASIDE])
        return [self._jobs.filter(id__in=ids, state=State.READY, claimable=False)]

    def _walk_pages(
        self, wanted: Criteria, *, size: int, newest: bool, behind: UUID | None
    ) -> JobPage:
        rest, which = self._walked(wanted), condition(wanted)
        order = "-id" if newest else "id"
        found: list[Job] = []
        for _window in range(MOST_WINDOWS):
            rows = rest if behind is None else rest.filter(**_behind(behind, newest))
            # The end of the window, found in the index alone.
            ends = list(rows.order_by(order).only("id")[ONE_WINDOW - 1 : ONE_WINDOW])
            if ends:
                rows = rows.filter(**_up_to(ends[0].id, newest))
            found += light(rows.filter(which)).order_by(order)[: size + 1 - len(found)]
            if len(found) > size:
                return JobPage(found[:size], found[size - 1].id, False)
            if not ends:
                return JobPage(found, None, False)
            behind = ends[0].id
        return JobPage(found, behind, True)

    def _shown(self, job_ids: Sequence[UUID]) -> list[Job]:
        return list(light(self._jobs.filter(id__in=job_ids)))


def _behind(job_id: UUID, newest: bool) -> dict[str, UUID]:
    return {"id__lt" if newest else "id__gt": job_id}


def _up_to(job_id: UUID, newest: bool) -> dict[str, UUID]:
    return {"id__gte" if newest else "id__lte": job_id}


def light(rows: QuerySet[Job]) -> QuerySet[Job]:
    """Return rows without columns that may be large; see ``JobPage``."""
    return rows.defer(*LARGE).annotate(
        payload_head=Left("payload", HEAD),
        payload_size=Length("payload"),
        errors_tail=Right("errors", TAIL),
    )


def _first(places: Iterable[QuerySet[Job]], which: Any, order: Any, size: int) -> list[UUID]:
    """Return the first ids of each place, one more than a page has."""
    found: dict[UUID, None] = {}
    for rows in places:
        some = rows.filter(which).order_by(order).only("id")[: size + 1]
        found |= dict.fromkeys(row.id for row in some if row.id is not None)
    return list(found)


def _in_order(rows: list[Job], newest: bool) -> list[Job]:
    return sorted(rows, key=lambda row: row.id, reverse=newest)
