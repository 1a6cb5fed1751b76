"""What the relay would keep: asked by the guard, which works without the relay, too."""

from collections.abc import Callable, Sequence

# By the name of a library: whether a message that is sent now would be kept in the transaction
# that is open. It gets the task's own choice (``aftercommit="never"``) or None, and the alias
# of the backend in TASKS or None, and the aliases whose transactions are open, or None.
WouldKeep = Callable[[str | None, str | None, Sequence[str] | None], bool]
_keeping: dict[str, WouldKeep] = {}


def register(library: str, would_keep: WouldKeep) -> None:
    """Let the relay answer for a library from now on."""
    _keeping[library] = would_keep


def is_kept(
    library: str,
    when: str | None = None,
    backend: str | None = None,
    aliases: Sequence[str] | None = None,
) -> bool:
    """Return whether the relay would keep a message of a library that is sent here and now.

    ``when`` is the task's own choice of "in_transaction", "always" or "never"; None: the
    settings decide. ``backend``: the alias in TASKS of a task of ``django.tasks``. ``aliases``:
    the databases whose transactions are open; None: look. Without a relay the answer is no.
    """
    would_keep = _keeping.get(library)
    return would_keep is not None and would_keep(when, backend, aliases)
