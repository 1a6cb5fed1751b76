"""A connection that breaks while a transition is on its way (TORTURE 4).

Every transition of a job, and the COMMIT of its effects, goes through a proxy that cuts
before the statement reaches the server, or after it was carried out and before the answer
arrives. SQLite has no wire to cut: there the crash points cover the same.

``AFTERCOMMIT_TEST_CUTS`` sets the number of cuts in each cell of the matrix.
"""

import contextlib
import os
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from django.db import Error, connection, connections, transaction

from aftercommit.models import LIVE, Job, State
from aftercommit.options.conf import BackendOptions
from aftercommit.values import ClaimQuery, Released, Retry, Succeeded
from aftercommit.worker.held import Runs
from aftercommit.worker.leases import Leases
from aftercommit.worker.upkeep.heartbeat import Heartbeat
from aftercommit.worker.upkeep.rescuer import Rescuer
from tests.app.chores import atomic, committed, plain
from tests.app.models import Effect
from tests.tiers import size
from tests.torture.cutproxy import CutProxy, Rule
from tests.torture.tasks import unsteady
from tests.worker.rig import Rig

pytestmark = pytest.mark.skipif(
    connection.vendor == "sqlite", reason="SQLite has no connection that could be cut"
)

CUTS = int(os.environ.get("AFTERCOMMIT_TEST_CUTS", size(change=12, full=30)))
ENOUGH = 20  # times as many jobs as cuts
DEADLINE = 60  # seconds for one cell
LEASE = timedelta(seconds=20)
SHORT = timedelta(milliseconds=60)
OVER = timedelta(milliseconds=-1)


def pattern(text: str) -> re.Pattern[bytes]:
    """Compile what a statement looks like on the wire."""
    return re.compile(text.encode(), re.DOTALL)


COMMIT = pattern(r"COMMIT")
EFFECT = pattern(r"INSERT INTO .app_effect")
# On PostgreSQL a transition is one statement; on MySQL and MariaDB it ends with a COMMIT.
STATEMENTS = {
    "postgresql": {
        "T0": pattern(r"INSERT INTO aftercommit_job"),
        "T1": pattern(r"SET state = 'running', claimable = false,\s+token = "),
        "T2": pattern(r"WITH free AS MATERIALIZED"),
        "T3": pattern(r"SET state = 'succeeded'"),
        # The first one; what it leaves is sent once more, in case others wait for the job.
        "T4": pattern(r"WITH ended AS MATERIALIZED.*exception_class_path.*needed IS NULL"),
    },
    "mysql": {"T0": pattern(r"INSERT INTO aftercommit_job")},
    "sqlite": {},
}
TRANSACTIONS = {
    "postgresql": {"COMMIT": EFFECT, "T6": pattern(r"UPDATE \"aftercommit_job\" SET.*crashes")},
    "mysql": {
        "COMMIT": EFFECT,
        "T1": pattern(r"SET state = 'running', claimable = FALSE,.*token = "),
        "T2": pattern(r"`lease_until` = \(?UTC_TIMESTAMP"),
        "T3": pattern(r"UPDATE `aftercommit_job`.*'succeeded'"),
        "T4": pattern(r"UPDATE `aftercommit_job`.*exception_class_path"),
        "T6": pattern(r"UPDATE `aftercommit_job`.*`crashes` ="),
    },
    "sqlite": {},
}


def rule_for(transition: str, when: str) -> Rule:
    """Return where to cut, on the database under test."""
    statement = STATEMENTS[connection.vendor].get(transition)
    if statement is not None:
        return Rule(statement=statement, when=when)
    following = TRANSACTIONS[connection.vendor][transition]
    return Rule(statement=COMMIT, when=when, following=following)


@pytest.fixture
def proxy() -> Iterator[CutProxy]:
    """Return a proxy in front of the database under test."""
    with proxy_in_front() as proxy:
        yield proxy


@contextlib.contextmanager
def proxy_in_front() -> Iterator[CutProxy]:
    """Start a proxy in front of the database under test."""
    settings = connection.settings_dict
    host, port = settings["HOST"], int(settings["PORT"] or 0)
    if host.startswith("/"):
        server = f"{host}/.s.PGSQL.{port or 5432}"
    else:
        usual = 5432 if connection.vendor == "postgresql" else 3306
        server = (host or "127.0.0.1", port or usual)
    proxy = CutProxy(server)
    try:
        yield proxy
    finally:
        proxy.close()


def address(proxy: CutProxy) -> dict[str, object]:
    """Return the settings of a database that is reached through the proxy."""
    options = dict(connection.settings_dict["OPTIONS"])
    if connection.vendor == "postgresql":
        options |= {"sslmode": "disable", "gssencmode": "disable"}  # else it reads nothing
    return {"HOST": "127.0.0.1", "PORT": str(proxy.port), "OPTIONS": options}


def through(proxy: CutProxy, work: Callable[[], None]) -> None:
    """Do ``work`` in a thread whose connection goes through the proxy."""
    raised = []

    def run() -> None:
        wrapper = connections["default"]
        wrapper.settings_dict = {**wrapper.settings_dict, **address(proxy)}
        try:
            work()
        except BaseException as error:
            raised.append(error)
        finally:
            wrapper.execute_wrappers.clear()
            connections.close_all()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(DEADLINE)
    assert not thread.is_alive(), "The work did not end."
    if raised:
        raise raised[0]


def again_and_again(step: Callable[[], object]) -> object:
    """Repeat a step until the database lets it pass, as the loops of a worker do."""
    while True:
        try:
            return step()
        except Error:
            connections.close_all()


class Road(Rig):
    """Runs whatever is due, one job after the other, until everything has ended."""

    def run_all(self) -> None:
        pause = threading.Event()
        while again_and_again(Job.objects.filter(state__in=LIVE).exists):
            claims = again_and_again(self._claim_one)
            for claim in claims:
                self.put(claim, self.execute(claim))
                again_and_again(self.finisher.write)
            if not claims:  # a claim that nobody knows of: its lease ends by itself
                again_and_again(lambda: self.store.rescue(max_crashes=1000))
                pause.wait(0.005)

    def _claim_one(self) -> list[object]:
        queue, lease = "default", timedelta(milliseconds=200)
        return self.store.claim(
            ClaimQuery(queue=queue, limit=1, worker_id=self.worker_id, lease=lease)
        )

    @property
    def settled(self) -> int:
        """COMMITs whose answer was lost and that were found to be carried out."""
        return sum(
            ran.in_doubt is not None and ran.outcome == ran.in_doubt for _, ran in self.written
        )


KINDS = {
    "COMMIT": (atomic, committed),
    "T1": (plain, atomic, committed),
    "T3": (plain, atomic, committed),
    "T4": (unsteady,),
}
ONCE = (atomic, committed, unsteady)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("transition", KINDS)
def test_a_cut_on_the_road_loses_and_doubles_nothing(rig, proxy, transition, when):
    tasks = KINDS[transition]
    jobs = {}
    road = Road()
    with proxy.cutting(rule_for(transition, when), most=CUTS):
        while proxy.cuts < CUTS:
            assert len(jobs) < ENOUGH * CUTS, "Nothing on the road looks like what is to be cut."
            for _number in range(CUTS):
                task = tasks[len(jobs) % len(tasks)]
                jobs[rig.enqueue(task, f"{task.name} {len(jobs)}")] = task
            through(proxy, road.run_all)

    told = Counter(str(claim.job_id) for claim, ran in road.written if is_success(ran))
    effects = Counter(str(row.job_id) for row in Effect.objects.all())
    print(f"{transition} {when}: {proxy.cuts} cuts, {road.settled} settled, {len(jobs)} jobs")
    if (transition, when) == ("COMMIT", "after"):
        assert road.settled == proxy.cuts
    assert violations(rig) == []
    for job_id, task in jobs.items():
        job = rig.job(job_id)
        assert job.state == State.SUCCEEDED
        assert told[job_id] == 1
        assert effects[job_id] == 1 if task in ONCE else 1 <= effects[job_id] <= job.token
        assert job.attempts == len(job.error_list) + 1
        assert task is unsteady or len(job.error_list) == job.crashes
    assert road.lost == []


def is_success(ran: object) -> bool:
    """Tell whether a run was announced as a success; anything else it may be is a new try."""
    assert isinstance(ran.outcome, (Succeeded, Released, Retry))
    return isinstance(ran.outcome, Succeeded)


def violations(rig: object) -> list[object]:
    """Return the changes that no transition makes; a trigger looks at each."""
    return [event for event in rig.ledger.events() if event.wrong]


def test_a_whole_worker_settles_what_it_has_lost(rig, proxy):
    """Its rooms in their threads: what one has lost, another finds in the table."""
    rig.settings_module(f"DATABASES['default'] |= {address(proxy)}")
    rig.worker("--threads", "2")
    keys, cuts = [], {}
    for when in ("before", "after"):
        with proxy.cutting(rule_for("COMMIT", when), most=CUTS):
            while proxy.cuts < CUTS:
                for task in (plain, atomic, committed) * (CUTS // 3):
                    keys.append(f"{task.name} {len(keys)}")
                    rig.enqueue(task, keys[-1])
                rig.wait_quiet()
        cuts[when] = proxy.cuts

    rig.wait_note("ended", times=len(keys), outcome="Succeeded")  # told after it is written
    report = rig.check(committed=keys)
    told = Counter(one["job"] for one in rig.notes("ended", outcome="Succeeded"))
    print(f"cuts {cuts}, {report}")
    assert report.violations == []
    assert report.fenced == 0
    assert report.released >= CUTS  # those whose COMMIT never arrived
    assert report.crashes == 0
    assert len(told) == len(keys)
    assert set(told.values()) == {1}


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_cut_at_an_enqueue_outside_a_transaction_is_repeated_once(rig, proxy, when):
    keys = [f"key {number}" for number in range(CUTS)]

    def enqueue_all() -> None:
        for key in keys:
            assert plain.enqueue(key).id

    with proxy.cutting(rule_for("T0", when), most=CUTS):
        through(proxy, enqueue_all)

    assert proxy.cuts == CUTS
    assert sorted(job.args[0] for job in Job.objects.all()) == sorted(keys)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_cut_at_an_enqueue_inside_a_transaction_is_the_callers_to_hear(rig, proxy, when):
    heard = []

    def enqueue_all() -> None:
        for number in range(CUTS):
            with contextlib.suppress(Error), transaction.atomic():
                heard.append(number)
                plain.enqueue(f"key {number}")
                heard.remove(number)

    with proxy.cutting(rule_for("T0", when), most=CUTS):
        through(proxy, enqueue_all)

    assert proxy.cuts >= CUTS / 2
    assert len(heard) == proxy.cuts
    assert Job.objects.count() == CUTS - proxy.cuts


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_cut_at_a_renewal_costs_no_lease(rig, proxy, when):
    road = Road()
    leases = Leases()
    runs = Runs(leases, lease=LEASE)
    claims = [road.claim(rig.enqueue(plain, f"{number}")) for number in range(5)]
    for claim in claims:
        runs.add(claim, road.facts_of(claim), road)
    lost = road.lose(claims.pop())

    def renew() -> None:
        heartbeat = Heartbeat(road.store, runs, leases, lease=LEASE, heartbeat=SHORT)
        while proxy.cuts < CUTS:
            again_and_again(heartbeat.step)

    with proxy.cutting(rule_for("T2", when), most=CUTS):
        through(proxy, renew)

    assert proxy.cuts == CUTS
    assert {run.claim.job_id for run in runs.all() if run.lost} == {lost.job_id}
    assert all(road.store.finish(claim, Succeeded()) for claim in claims)
    assert violations(rig) == []


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_cut_at_a_rescue_counts_one_crash_for_each_death(rig, proxy, when):
    road = Road()
    rescued = []

    def rescue() -> None:
        rescuer = Rescuer(
            road.store,
            BackendOptions(lease=SHORT, heartbeat=SHORT / 3, max_crashes=1000),
            road.rooms.crashed,
            worker_id=road.worker_id,
            rescued=rescued.append,
            forgotten=lambda: None,
        )
        deaths = 0
        pause = threading.Event()
        while proxy.cuts < CUTS:
            if not Job.objects.filter(state="running").exists():
                road.claim(rig.enqueue(plain, f"death {deaths}"), lease=OVER)
                deaths += 1
            try:
                pause.wait(min(rescuer.step().total_seconds(), 0.01))
            except Error:
                connections.close_all()
                rescuer.trouble()

    with proxy.cutting(rule_for("T6", when), most=CUTS):
        through(proxy, rescue)

    while road.store.rescue(max_crashes=1000):
        pass
    jobs = Job.objects.all()
    print(f"T6 {when}: {proxy.cuts} cuts, {len(jobs)} deaths, {len(rescued)} told")
    assert proxy.cuts == CUTS
    assert {(job.state, job.crashes, job.token) for job in jobs} == {("ready", 1, 1)}
    assert len(jobs) >= CUTS / 2
    assert violations(rig) == []
