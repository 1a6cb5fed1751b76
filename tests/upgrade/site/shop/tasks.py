"""Tasks that both versions run."""

from threading import Event

from aftercommit import task
from shop.notes import note, there_is


@task
def plain(word):
    """Leave a note."""
    note(word)
    return word


@task(atomic=True)
def atomic(word):
    """Leave a note, in a transaction."""
    note(word)
    return word


@task(max_attempts=1)
def unlucky(word):
    """Fail until the fault is mended."""
    if not there_is("mended"):
        raise ValueError(word)
    note(word)
    return word


@task
def endless(word):
    """Tell that it has begun; end if there is a gate to go through."""
    note(f"{word} begins")
    while not there_is("gate"):
        Event().wait(0.05)
    note(word)
    return word


def function(word):
    """Leave a note; called by ``schedule()``."""
    note(word)
    return word
