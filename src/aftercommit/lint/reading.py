"""Files become facts: by several processes, and from a cache where nothing has changed."""

import marshal
import os
import stat
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from aftercommit.lint.cache import Cache, key_of
from aftercommit.lint.extract import extract
from aftercommit.lint.facts import Module, pack, unpack
from aftercommit.lint.source import decode, parse

ENOUGH_FOR_ANOTHER_PROCESS = 40  # files


def read(files: Iterable[Path], *, jobs: int = 1, cache: Cache | None = None) -> list[Module]:
    """Return the facts of some files, in their order, without those that cannot be opened."""
    paths = [str(file) for file in files]
    read_one = partial(_one, cache=cache)
    if jobs > 1 and len(paths) > ENOUGH_FOR_ANOTHER_PROCESS:
        with ProcessPoolExecutor(jobs) as processes:
            size = max(1, len(paths) // (jobs * 8))
            found = list(processes.map(read_one, paths, chunksize=size))
    else:
        found = list(map(read_one, paths))
    if cache is not None:
        cache.prune()
    modules = (
        unpack((path, *marshal.loads(one)))  # noqa: S302 - written by this program, holds no code
        for path, one in zip(paths, found, strict=True)
        if one
    )
    return list(modules)


def _one(path: str, cache: Cache | None) -> bytes:
    """Return the packed facts of a file without its path; nothing if it cannot be read."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # nobody may ever write to a pipe
            return b""
        content = Path(path).read_bytes()
    except OSError as error:
        print(f"{path}: {error.strerror}", file=sys.stderr)
        return b""
    key = key_of(content)
    kept = cache.get(key) if cache else None
    if kept is not None:
        return kept
    text = decode(content)
    tree, recovered = parse(text)
    packed = marshal.dumps(pack(extract(tree, path=path, text=text, recovered=recovered))[1:])
    if cache:
        cache.put(key, packed)
    return packed
