"""Keys of secret arguments that waiting jobs need, and that the settings do not have."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aftercommit.enqueue.configured import our_backends
from aftercommit.enqueue.sealing import missing_key

if TYPE_CHECKING:
    from aftercommit.store.base import Store


def missing_keys(store: "Store") -> Sequence[str]:
    """Return the ids of keys that waiting jobs need, and that their backends do not have."""
    keys = {one.alias: one.config.secret_keys for one in our_backends()}
    found = store.waiting_secrets()
    missing = {missing_key(text, keys.get(backend, ())) for backend, text in found}
    return sorted(filter(None, missing))
