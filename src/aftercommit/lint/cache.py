"""Facts of files are kept between runs, by the content of the file; never its path or time.

The folder is the user's own, not one in the project: what lies there may come from others.
It stays bounded: once a day what was not used for a month goes, and the oldest above 256 MB.
"""

import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from aftercommit.version import VERSION

FACTS = "7"  # the form of the facts; another one makes what was kept worthless
DAY = 24 * 60 * 60  # seconds
UNUSED = 30 * DAY
MOST = 256 * 2**20  # bytes
STAMP = "pruned"


@dataclass(frozen=True, slots=True)
class Cache:
    """A folder of facts; all of it may be deleted at any time, also by another process."""

    folder: Path

    def get(self, key: str) -> bytes | None:
        """Return what was kept under a key, None if nothing was, or not to its end."""
        file = self._file(key)
        try:
            content = file.read_bytes()
            if time.time() - file.stat().st_mtime > DAY:
                os.utime(file)  # when it was used last
        except OSError:
            return None
        digest, packed = content[:32], content[32:]
        return packed if hashlib.sha256(packed).digest() == digest else None

    def put(self, key: str, packed: bytes) -> None:
        """Keep something under a key; a folder that cannot be written only costs time."""
        file = self._file(key)
        with suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as written:
                written.write(hashlib.sha256(packed).digest() + packed)
            os.replace(written.name, file)

    def prune(self) -> None:
        """Delete what is old or too much, at most once a day."""
        now = time.time()
        stamp = self.folder / STAMP
        with suppress(OSError):
            if stamp.exists() and now - stamp.stat().st_mtime < DAY:
                return
            stamp.touch()
        left = 0
        for used, size, file in sorted(self._files(), reverse=True):
            left += size
            if left > MOST or now - used > UNUSED:
                with suppress(OSError):
                    file.unlink()

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        for file in self.folder.glob("??/*"):
            with suppress(OSError):
                status = file.stat()
                yield status.st_mtime, status.st_size, file

    def _file(self, key: str) -> Path:
        return self.folder / key[:2] / key


def key_of(content: bytes) -> str:
    """Return the key of a file's content, for this version of the linter and of Python."""
    version = f"{VERSION} {FACTS} {sys.version_info[:2]} ".encode()
    return hashlib.sha256(version + content).hexdigest()


def default_cache() -> Cache | None:
    """Return the cache in the user's folder of caches, None for a user without a home."""
    base = os.environ.get("AFTERCOMMIT_LINT_CACHE") or os.environ.get("XDG_CACHE_HOME")
    try:
        return Cache(Path(base or Path.home() / ".cache") / "aftercommit-lint")
    except RuntimeError:
        return None
