"""Tasks that the tests of the way in declare; none of them is run."""

from datetime import timedelta

from aftercommit import task


@task
def note(*args, **kwargs):
    """Take any arguments."""


@task()
async def anote(*args, **kwargs):
    """Take any arguments, as a coroutine."""


@task
def answer():
    """Return what the tests know to expect."""
    return 42


@task(takes_context=True)
def with_context(context, key):
    """Take Django's context before the arguments."""
    return context.attempt, key


@task(backend="other")
def elsewhere(*args):
    """Live in the database ``other``."""


@task(
    priority=7,
    queue_name="mail",
    max_attempts=3,
    backoff=lambda failed_runs: timedelta(seconds=failed_runs),  # pickle knows no lambda
    retry_on=OSError,
    discard_on="builtins.ValueError",
    atomic=True,
    timeout=timedelta(minutes=2),
)
def with_options(key):
    """Have every option."""
