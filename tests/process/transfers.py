"""Money that moves between accounts, locked in the order given: opposite ones deadlock."""

from typing import Any

from django.db import OperationalError
from django.db.models import F

from aftercommit import task
from tests.app.chores import OFTEN, SOON, leave_effect, run_of, work
from tests.app.models import Account
from tests.app.notes import note


@task(takes_context=True, atomic=True, max_attempts=OFTEN, backoff=SOON)
def transfer(context: Any, key: str, source: int, target: int, lasting: float = 0) -> str:
    """Move one coin and leave one row, in the transaction of the completion."""
    try:
        with run_of(context, key):
            move(source, -1)
            work(lasting, gate="")
            move(target, 1)
            leave_effect(context, key)
    except OperationalError as error:
        note("conflict", number=error.args[0], job=context.job_id)
        raise
    return key


def move(account: int, coins: int) -> None:
    """Change a balance, which locks the account."""
    Account.objects.filter(pk=account).update(balance=F("balance") + coins)
