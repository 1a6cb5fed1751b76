"""Channels: what is sent to a channel or a group of a channel layer.

A consumer may look the rows up before they are committed, and tell a browser of rows that a
rollback takes away.
"""

from collections.abc import Callable
from functools import partial, wraps
from types import ModuleType
from typing import Any

from aftercommit.guard.adapters.coroutines import noticing
from aftercommit.guard.patches import OnImport, patch

# The class of each module that sends. Others are patched when the settings name them.
LAYERS = {
    "channels.layers": "InMemoryChannelLayer",
    "channels_redis.core": "RedisChannelLayer",
    "channels_redis.pubsub": "RedisPubSubLoopLayer",
}
SENT_TO = {"send": "channel", "group_send": "group"}


def install(on_import: OnImport) -> None:
    """Notice the messages of all layers, also of other packages."""
    for module, kind in LAYERS.items():
        on_import.when(module, partial(_patch_module, kind))
    on_import.when("channels.layers", _patch_manager)


def _patch_module(kind: str, module: ModuleType) -> None:
    _patch(getattr(module, kind))


def _patch_manager(module: ModuleType) -> None:
    patch(module.ChannelLayerManager, "_make_backend", _making)
    for layer in module.channel_layers.backends.values():
        _patch_methods(type(layer))


def _making(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def _make_backend(self: Any, *args: Any, **options: Any) -> Any:
        layer = original(self, *args, **options)
        _patch_methods(type(layer))
        return layer

    return _make_backend


def _patch_methods(kind: type) -> None:
    """Patch the classes from which a layer has its methods."""
    for one in kind.__mro__:
        _patch(one)


def _patch(kind: type) -> None:
    for name, whom in SENT_TO.items():
        patch(kind, name, noticing("channels", partial(_of_call, whom)))


def _of_call(whom: str, args: tuple[Any, ...], options: dict[str, Any]) -> str:
    # Without the name behind "!": it is one connection's, and each would be a finding of its own.
    name = args[0] if args else options.get(whom)
    return f"A message to the {whom} {str(name).partition('!')[0]}"
