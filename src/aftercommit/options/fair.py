"""The keys of fair lines: one line for each queue and value, and the lines of a queue together.

A key is a text of 64 letters and digits: ``q``, a number of the backend and the queue, ``p`` or
``q``, and a hash of the values. No other line is called like this, since the others are named by
hashes in hexadecimal. By the number, the lines of a queue are one range of the index; digits are
in the same order in every collation, as letters with accents and ``aa`` are not.
"""

import hashlib

LONGEST_KEY = 64
DIGITS = 18
FREE, GATED = "p", "q"
FIRST, BEHIND = "q", "r"  # all lines are between these two
HEAD = len(FIRST) + DIGITS  # letters that the lines of a queue have in common


def fair_key(backend: str, queue: str, values: str, *, gated: bool) -> str:
    """Return the key of jobs in a queue that are alike in ``values``.

    ``gated``: they also have a limit or a rate, so that nobody can claim them by this alone.
    """
    digest = hashlib.sha256(values.encode()).hexdigest()
    head = head_of(backend, queue) + (GATED if gated else FREE)
    return head + digest[: LONGEST_KEY - len(head)]


def head_of(backend: str, queue: str) -> str:
    """Return how the keys of a queue begin."""
    digest = hashlib.sha256(f"{backend}\0{queue}".encode()).digest()
    number = int.from_bytes(digest[:8]) % 10**DIGITS
    return f"{FIRST}{number:0{DIGITS}d}"


def range_of(backend: str, queue: str, *, gated: bool) -> tuple[str, str]:
    """Return two texts: such keys of a queue are between them."""
    head = head_of(backend, queue)
    return (head + GATED, head + BEHIND) if gated else (head + FREE, head + GATED)


def is_gated(key: str) -> bool:
    """Return whether the jobs of a line have a limit or a rate as well."""
    return key[HEAD : HEAD + 1] == GATED


def belongs_to(key: str, backend: str, queue: str) -> bool:
    """Return whether a line is one of a queue."""
    return key.startswith(head_of(backend, queue))
