"""The messages that are kept in a transaction of this thread that is still open."""

from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from typing import Any
from weakref import WeakKeyDictionary, ref

from django.db import connections, transaction

from aftercommit.enqueue.transactions import is_open
from aftercommit.errors import NotPublishedYet


class Unsent:
    """The ids of messages, for as long as their transaction is open.

    Django holds this object among the callbacks of the transaction, and nobody else does: it
    is gone after a rollback.
    """

    def __init__(self) -> None:
        self.ids: set[str] = set()

    def __call__(self) -> None:
        """Forget the messages: they are committed."""
        self.ids.clear()


_open: WeakKeyDictionary[Any, ref[Unsent]] = WeakKeyDictionary()


def note(message_id: str, *, using: str) -> None:
    """Note a message that is kept in the transaction on ``using``, if one is open there."""
    connection = transaction.get_connection(using)
    if not _has_commit(connection):
        return
    found = _open[connection]() if connection in _open else None
    if found is None:
        found = Unsent()
        transaction.on_commit(found, using=using)
        _open[connection] = ref(found)
    found.ids.add(message_id)


def after_commit(call: Callable[[], Any], *, using: str) -> None:
    """Call a function when the transaction commits, or immediately if none is open."""
    if _has_commit(transaction.get_connection(using)):
        transaction.on_commit(call, using=using, robust=True)
    else:
        call()


def _has_commit(connection: Any) -> bool:
    return connection.in_atomic_block and is_open(connection)


def is_unsent(message_id: str) -> bool:
    """Return whether a message is kept in a transaction of this thread that is still open."""
    if not _open:
        return False
    found = (_open.get(one) for one in connections.all(initialized_only=True))
    return any(message_id in unsent.ids for one in found if one and (unsent := one()))


def refusing(
    original: Callable[..., Any],
    ids: Callable[[Any], Iterable[str]],
    *,
    unless: Callable[..., bool] = lambda *_args, **_options: False,
) -> Callable[..., Any]:
    """Return a method that raises ``NotPublishedYet`` for a message that is not sent yet.

    ``ids`` returns the messages of the object; ``unless`` says by the arguments of the call
    that it does not matter.
    """

    @wraps(original)
    def method(self: Any, *args: Any, **options: Any) -> Any:
        if _open and not unless(*args, **options):
            for message_id in ids(self):
                if is_unsent(message_id):
                    what = f"{type(self).__name__}.{original.__name__}()"
                    raise NotPublishedYet(message_id=message_id, what=what)
        return original(self, *args, **options)

    return method


def parts(result: Any) -> Iterator[str]:
    """Yield the ids of a result, of those before it in a chain, and of those in a group."""
    while result is not None:
        yield str(getattr(result, "id", ""))
        for one in getattr(result, "results", None) or ():
            yield from parts(one)
        result = getattr(result, "parent", None)
