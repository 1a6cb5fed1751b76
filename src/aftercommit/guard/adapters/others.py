"""What is noticed only if the settings ask for it: Redis, processes, files."""

import subprocess
from collections.abc import Callable
from functools import partial, wraps
from types import ModuleType
from typing import Any

from django.core.files.storage import Storage

from aftercommit.guard.dispatches import Dispatch, passing, someone_is_interested
from aftercommit.guard.patches import OnImport, patch

# Commands of Redis that change nothing; what a library sends besides them may write.
_READS = """
AUTH CLIENT COMMAND CONFIG DBSIZE ECHO EXISTS EXPIRETIME GET GETBIT GETRANGE HELLO
HEXISTS HGET HGETALL HKEYS HLEN HMGET HSCAN HSTRLEN HVALS INFO KEYS LINDEX LLEN LPOS
LRANGE MEMORY MGET OBJECT PEXPIRETIME PING PTTL PUBSUB RANDOMKEY ROLE SCAN SCARD
SDIFF SELECT SINTER SISMEMBER SMEMBERS SMISMEMBER SRANDMEMBER SSCAN STRLEN SUBSCRIBE
SUNION TIME TTL TYPE UNSUBSCRIBE UNWATCH WATCH XINFO XLEN XPENDING XRANGE XREAD
XREVRANGE ZCARD ZCOUNT ZLEXCOUNT ZRANGE ZRANGEBYSCORE ZRANK ZREVRANGE ZREVRANK ZSCAN
ZSCORE
"""
READS = frozenset(_READS.split())


def install(on_import: OnImport) -> None:
    """Notice them; what becomes of it is a matter of the settings."""
    on_import.when("redis.client", _patch_redis)
    patch(subprocess.Popen, "__init__", _starting)
    patch(Storage, "save", _saving)


def _patch_redis(module: ModuleType) -> None:
    patch(module.Redis, "execute_command", _commanding)
    patch(module.Pipeline, "execute", _executing)


def _commanding(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def execute_command(self: Any, *args: Any, **options: Any) -> Any:
        send = partial(original, self, *args, **options)
        if not someone_is_interested() or (name := _command(args)) in READS:
            return send()
        return passing(Dispatch(adapter="redis", subject=f"{name} to Redis", send=send))

    return execute_command


def _executing(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def execute(self: Any, *args: Any, **options: Any) -> Any:
        send = partial(original, self, *args, **options)
        if not someone_is_interested():
            return send()
        names = dict.fromkeys(_command(one[0]) for one in self.command_stack)
        writing = [name for name in names if name not in READS]
        if not writing:
            return send()
        subject = f"{', '.join(writing)} to Redis"
        return passing(Dispatch(adapter="redis", subject=subject, send=send))

    return execute


def _command(args: Any) -> str:
    return str(args[0]).partition(" ")[0].upper() if args else "?"


def _starting(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def __init__(self: Any, args: Any, *more: Any, **options: Any) -> None:
        start = partial(original, self, args, *more, **options)
        if not someone_is_interested():
            start()
            return
        words = args if isinstance(args, str) else (list(args) if _is_list(args) else [args])
        program = words.split()[0] if isinstance(words, str) else words[0]
        passing(Dispatch(adapter="subprocess", subject=f"The process {program}", send=start))

    return __init__


def _is_list(args: Any) -> bool:
    return isinstance(args, (list, tuple)) and bool(args)


def _saving(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def save(self: Any, *args: Any, **options: Any) -> Any:
        send = partial(original, self, *args, **options)
        if not someone_is_interested():
            return send()
        subject = f"A file by {type(self).__qualname__}"
        return passing(Dispatch(adapter="storage", subject=subject, send=send))

    return save
