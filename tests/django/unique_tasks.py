"""Unique tasks that the tests of the way in declare; none of them is run."""

from datetime import timedelta

from aftercommit import task

WAIT, MOST = timedelta(seconds=30), timedelta(minutes=5)
NOT_JSON = object()


@task(unique="until_finished")
def whole(user_id, action="sync", *, tags=(), when=NOT_JSON):
    """Be unique by all arguments."""


@task(unique="until_started")
def started(user_id):
    """Give the key back when it starts."""


@task(unique="until_finished", unique_by=("user_id",))
def by_user(user_id, text=""):
    """Be unique by one argument."""


@task(unique="until_finished", unique_by=())
def single(text=""):
    """Be alone, whatever the arguments."""


@task(unique="until_finished", unique_by=("region",), takes_context=True)
def with_context(context, *numbers, **options):
    """Be unique by what may be in the options."""


@task(unique="until_finished")
def anything(*args, **kwargs):
    """Be unique by all that is given."""


@task(unique="until_finished", unique_by=("user_id",), on_conflict="replace")
def last_wins(user_id, text=""):
    """Run with the arguments of the last call."""


@task(unique="until_finished", on_conflict="raise")
def only_once(user_id):
    """Refuse a second call."""


@task(debounce=WAIT, debounce_max=MOST, unique_by=("doc_id",))
def debounced(doc_id, text=""):
    """Run once the calls have stopped, with the last text."""


@task(debounce=WAIT, unique_by=("doc_id",), on_conflict="return")
def first_text(doc_id, text=""):
    """Run once the calls have stopped, with the first text."""
