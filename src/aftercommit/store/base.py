"""The store: the contract that each database implements, composed of one class a subject.

Each transition of a job (T0 to T10) is one method, and each of its writes has the whole
condition in its WHERE. The caller must check what the method returns.

==========  =============================================================  ==============
insert      ``insert``, ``insert_together``, ``insert_unique`` …           T0
groups      ``due_groups``, ``queues``                                     before T1
claim       ``claim``, ``renew``, ``end_leases``                           T1, T2
limits      ``let_pass``, ``parked_keys``                                  T1 (limits)
fair        ``claim_in_turn``, ``fair_parts``, ``out_of_line``            T1 (fairness)
finish      ``finish``, ``finish_many``                                    T3-T5, T7, T8'
rescue      ``rescue``, ``release_unstarted``, ``release_forgotten``       T6, T7
operations  ``cancel``, ``retry``, ``prune``                               T8-T10
requests    ``asked_to_stop``                                              before T8'
selecting   ``find``, ``count``, ``delete``, ``move``, ``reprioritise``    T8-T10
pruning     ``page``, ``delete_ended``                                     T10
reading     ``job``, ``due``, ``counts``, ``look`` …
measuring   ``waiting``, ``oldest_due_age``, ``recent_waits``, ``recent_ends``
states      ``states``, ``held_back``
health      ``unserved``, ``dead_rows``, ``old_transactions`` …
waiting     ``ended_among``, ``ask_for_end``
rules       ``rules``, ``pauses``, ``pause``, ``resume``
aside       ``set_aside``, ``bring_back``
graphs      ``insert_graph``, ``sweep_edges``                              T0 and each end
overview    ``by_name``, ``ended_lately`` …
members     ``insert_group``, ``add_members``, ``group_counts``, ``prune_groups`` …
rates       ``pause_rate``, ``paused_rates``, ``end_rate_pauses``
replication ``position``, ``replica_has``                          before T1's run
notes       ``write_notes``, ``save``, ``take_saved``, ``record_answer`` …
statistics  ``write_statistics``, ``fold_statistics``, ``statistics`` …
browsing    ``browse``, ``end_of_window``
audit       ``record_action``, ``count_action``, ``actions``
edges       ``needs_of``, ``needed_by``
schedules   ``lock_due_schedules``, ``take_ticks``, ``next_moment`` …     T0
==========  =============================================================  ==============
"""

from abc import abstractmethod
from uuid import UUID

from aftercommit.store.aside import Aside
from aftercommit.store.audit import Audit
from aftercommit.store.blame import WORKER_DIED
from aftercommit.store.browsing import Browsing
from aftercommit.store.columns import unique_lock
from aftercommit.store.fair.claims import FairClaims
from aftercommit.store.fair.numbers import FairNumbers
from aftercommit.store.finish import Finishing
from aftercommit.store.graphs.late import LateEdges
from aftercommit.store.graphs.seen import SeenEdges
from aftercommit.store.graphs.stuck import StuckJobs
from aftercommit.store.graphs.sweep import Sweeping
from aftercommit.store.health import Health
from aftercommit.store.inbox import Inbox
from aftercommit.store.notes import Notes
from aftercommit.store.operations import CancelAnswer, Retried
from aftercommit.store.overview import Overview
from aftercommit.store.presence import Presence
from aftercommit.store.pruning import Pruning
from aftercommit.store.rates.paused import PausedRates
from aftercommit.store.replication import Replication
from aftercommit.store.rescue import Rescue, Rescued
from aftercommit.store.schedules import Schedules
from aftercommit.store.sealed import SealedJobs
from aftercommit.store.selecting import Selecting
from aftercommit.store.states import States
from aftercommit.store.statistics import Statistics
from aftercommit.store.waiting import Waiting

__all__ = ["WORKER_DIED", "CancelAnswer", "Rescued", "Retried", "Store", "unique_lock"]


class Store(
    PausedRates,
    LateEdges,
    Sweeping,
    StuckJobs,
    FairClaims,
    Finishing,
    Rescue,
    Overview,
    Browsing,
    Selecting,
    Pruning,
    SealedJobs,
    FairNumbers,
    States,
    Health,
    Inbox,
    Schedules,
    Aside,
    Waiting,
    Notes,
    Replication,
    Statistics,
    Audit,
    SeenEdges,
):
    """The jobs of one database alias. Stateless; the connection is the calling thread's."""

    wakes_workers = False  # whether a presence is notified of new jobs

    @abstractmethod
    def open_presence(self, worker_id: UUID, *, session_locks: bool) -> Presence:
        """Open the presence of a worker process, with its session lock if that is wanted."""

    def forget(self, worker_ids: set[UUID]) -> None:
        """Delete the rows of dead workers, once their jobs are rescued."""
        self.workers.forget(worker_ids)
