"""MySQL and MariaDB: deadlocks, lock timeouts, cut connections; enqueuing in REPEATABLE READ."""

import json
from collections import Counter
from datetime import timedelta

import pytest
from django.db import OperationalError, connection, transaction

from tests.app.models import Account, Effect
from tests.process.checker import key_of
from tests.process.rig import Job
from tests.process.transfers import transfer
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif("connection.vendor != 'mysql'")

SETTINGS = """
import os
DATABASES['default']['OPTIONS'] = {
    'isolation_level': os.environ.get('RIG_ISOLATION', 'read committed'),
    'init_command': 'SET SESSION innodb_lock_wait_timeout = 1',
}
"""
DEADLOCK, LOCK_TIMEOUT, NO_SUCH_CONNECTION = 1213, 1205, 1094
CUT = (1927, 2006, 2013)  # killed, gone, lost: how it is said depends on the moment
CONNECTIONS = """
SELECT process.id, trx.trx_id IS NOT NULL
FROM information_schema.processlist AS process
LEFT JOIN information_schema.innodb_trx AS trx ON trx.trx_mysql_thread_id = process.id
WHERE process.db = DATABASE() AND process.id <> CONNECTION_ID()
ORDER BY process.id
"""
MOSTLY = 0.8
ACCOUNTS = 9
PAIRS, LONGER_THAN_A_CLAIM = 4, 0.6  # seconds
BACKLOG = 180  # jobs
ENQUEUERS, BATCHES, SIZE = 2, 14, 6  # and one single job beside each batch
BETWEEN_CUTS = 10  # jobs and batches
LONG = timedelta(seconds=50)


@pytest.fixture
def bank(rig):
    """Return a rig with accounts, and short patience."""
    rig.settings_module(SETTINGS)
    rig.settings(modules="tests.process.transfers", lease=3, heartbeat=1, max_crashes=1000)
    Account.objects.bulk_create(Account() for _number in range(ACCOUNTS))
    return rig


def test_conflicts_and_cut_connections_lose_nothing_and_double_nothing(bank):
    for _number in range(2):
        bank.worker("--threads", "6", ready=False)
    opposite = enqueue_in_opposite_order(bank)
    waited_in_vain = enqueue_while_an_account_is_locked(bank)
    backlog = enqueue_backlog(bank)
    enqueuers = [start_enqueuer(bank, f"batch{number}") for number in range(ENQUEUERS)]

    cuts = cut_connections_until(bank, lambda: all(one.ended for one in enqueuers))

    bank.wait_quiet(LONG)
    certain, invented = expected(bank)
    report = bank.check(
        committed=certain | opposite | waited_in_vain | backlog, rolled_back=invented
    )
    numbers = Counter(one["number"] for one in bank.notes("conflict"))
    doubts = len(bank.notes("batch_in_doubt")) + len(bank.notes("single_in_doubt"))
    print(f"{cuts} cuts, {doubts} enqueuers in doubt, conflicts of tasks: {dict(numbers)}")
    assert not report.violations
    assert all(times == 1 for times in effects_of_jobs().values())
    assert balances() == balances_by_jobs()
    assert len(bank.notes("enqueued")) == ENQUEUERS
    assert report.states["succeeded"] >= 300
    assert cuts >= 20
    assert numbers[DEADLOCK] >= 1
    assert numbers[LOCK_TIMEOUT] >= 1
    assert sum(numbers[number] for number in CUT) >= 1
    assert sum(Job.objects.values_list("conflicts", flat=True)) >= 1


def enqueue_in_opposite_order(rig) -> set[str]:
    """Enqueue pairs of tasks that wait for each other's account; return their keys."""
    accounts = list(Account.objects.values_list("pk", flat=True))
    keys = {
        f"opposite:{number}:{way}": accounts[2 * number : 2 * number + 2][::way]
        for number in range(PAIRS)
        for way in (1, -1)
    }
    calls = [((key, *pair), {"lasting": LONGER_THAN_A_CLAIM}) for key, pair in keys.items()]
    rig.enqueue_many(transfer, calls)
    return set(keys)


def enqueue_while_an_account_is_locked(rig) -> set[str]:
    """Hold an account until a task has waited for it in vain; return the keys of such tasks."""
    locked, other = Account.objects.order_by("pk").values_list("pk", flat=True)[:2]
    keys = {f"vain:{number}" for number in range(3)}
    rig.enqueue_many(transfer, [((key, locked, other), {}) for key in keys])
    with transaction.atomic():
        Account.objects.select_for_update().get(pk=locked)
        rig.wait_note("conflict", number=LOCK_TIMEOUT)
    return keys


def enqueue_backlog(rig) -> set[str]:
    """Enqueue transfers between accounts at random; return their keys."""
    accounts = sorted(Account.objects.values_list("pk", flat=True))
    keys = [f"backlog:{number}" for number in range(BACKLOG)]
    calls = [((key, *rig.random.sample(accounts, 2)), {"lasting": 0.01}) for key in keys]
    rig.enqueue_many(transfer, calls)
    return set(keys)


def start_enqueuer(rig, name: str):
    """Start a process that enqueues transfers."""
    accounts = map(str, Account.objects.values_list("pk", flat=True))
    call = ("-m", "tests.process.payer", name, str(BATCHES), str(SIZE), *accounts)
    return rig.run(*call, RIG_ISOLATION="repeatable read")


def cut_connections_until(rig, over) -> int:
    """Cut a connection at random each time that some jobs have ended; return how many."""
    cuts = 0
    while not over() or rig.open_jobs():
        enough = progress(rig) + BETWEEN_CUTS
        wait_until(
            lambda: progress(rig) >= enough or (over() and not rig.open_jobs()),  # noqa: B023
            deadline=LONG,
            why=f"jobs flow after {cuts} cuts",
        )
        cuts += cut_one(rig)
    return cuts


def progress(rig) -> int:
    """Return how much has been enqueued and done."""
    return sum(len(rig.notes(what)) for what in ("batch", "single", "ended"))


def cut_one(rig) -> int:
    """Cut one connection of the rig's processes, most often one in a transaction."""
    with connection.cursor() as cursor:
        cursor.execute(CONNECTIONS)
        found = cursor.fetchall()
        in_transaction = [number for number, busy in found if busy]
        if in_transaction and rig.random.random() < MOSTLY:
            number = rig.random.choice(in_transaction)
        elif found:
            number, _busy = rig.random.choice(found)
        else:
            return 0
        try:
            cursor.execute(f"KILL CONNECTION {number}")
        except OperationalError as error:
            if error.args[0] != NO_SUCH_CONNECTION:
                raise
            return 0
    return 1


def expected(rig) -> tuple[set[str], set[str]]:
    """Return the keys that must be jobs, and those of jobs that must not be."""
    kept = set(Effect.objects.filter(job_id=None).values_list("key", flat=True))
    lost = {one["batch"] for one in rig.notes("batch")} - kept
    assert not lost, "a transaction that was committed is lost"
    batches = {f"{batch}:{number}" for batch in kept for number in range(SIZE)}
    singles = {f"single:{one['batch']}" for one in rig.notes("single")}
    found = {key_of(job) for job in Job.objects.all()}
    invented = {key for key in found if key.startswith("batch")} - batches
    return batches | singles, invented


def effects_of_jobs() -> Counter[str]:
    """Return how many rows the job of each key has left."""
    effects = Counter(Effect.objects.exclude(job_id=None).values_list("key", flat=True))
    return Counter({key_of(job): effects[key_of(job)] for job in Job.objects.all()})


def balances() -> dict[int, int]:
    """Return what is in the accounts."""
    return dict(Account.objects.values_list("pk", "balance"))


def balances_by_jobs() -> dict[int, int]:
    """Return what should be there if each job has moved one coin once."""
    coins: Counter[int] = Counter(dict.fromkeys(balances(), 0))
    for job in Job.objects.all():
        _key, source, target = json.loads(job.payload)["args"]
        coins[source] -= 1
        coins[target] += 1
    return dict(coins)
