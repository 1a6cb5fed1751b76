"""Reads a file of articles, one line each: a name and a price."""

import csv
from collections.abc import Sequence

LONGEST_FILE = 256 * 1024  # bytes
MOST_LINES = 2000
SAMPLE_LINES = 200


class NotAFile(Exception):
    """What was uploaded is no such file."""


def lines_of(content: bytes) -> Sequence[tuple[str, str]]:
    """Return names and prices as they stand there; raises ``NotAFile``."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise NotAFile("It is no text in UTF-8.") from error
    rows = [row for row in csv.reader(text.splitlines()) if row]
    if not 1 <= len(rows) <= MOST_LINES or any(len(row) != 2 for row in rows):
        raise NotAFile(f"Expected 1 to {MOST_LINES} lines: a name, a comma, a price.")
    return [(name, price) for name, price in rows]


def sample() -> Sequence[tuple[str, str]]:
    """Return the lines of a file for those who have none; one price is missing."""
    lines = [(f"Article {number}", f"{number}.50") for number in range(1, SAMPLE_LINES)]
    return [*lines, ("An article without a price", "?")]
