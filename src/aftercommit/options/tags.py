"""Tags of jobs: what they may be, and how they are stored so that one can be found exactly."""

import json
from collections.abc import Sequence

from aftercommit.errors import ConfigurationError
from aftercommit.options.checked import shown

MOST_TAGS, LONGEST_TAG = 20, 100  # of a job; characters


def is_tag(value: object) -> bool:
    """Return whether a tag may be called like this."""
    return (
        isinstance(value, str)
        and 1 <= len(value) <= LONGEST_TAG
        and value.isprintable()
        and value == value.strip()
    )


def tags_from(given: object) -> tuple[str, ...]:
    """Return tags, each once; raises ``ConfigurationError`` for what are none."""
    if isinstance(given, str):
        raise ConfigurationError(f"tags: expected a list of texts; write tags=[{shown(given)}].")
    if not isinstance(given, (list, tuple)):
        raise ConfigurationError(f"tags: expected a list of texts, got {shown(given)}.")
    for one in given:
        if not is_tag(one):
            raise ConfigurationError(
                f"tags: a tag has 1 to {LONGEST_TAG} printable characters, and no space at its "
                f"ends, got {shown(one)}."
            )
    found = tuple(dict.fromkeys(given))
    if len(found) > MOST_TAGS:
        raise ConfigurationError(f"tags: a job has at most {MOST_TAGS}, got {len(found)}.")
    return found


def stored_tags(tags: Sequence[str]) -> str | None:
    """Return tags as a JSON list for the column; None without any."""
    return f"[{', '.join(map(in_column, tags))}]" if tags else None


def in_column(tag: str) -> str:
    r"""Return a tag as it is written in the column, with its quotation marks.

    Those within it are written as ``\u0022``. So between two quotation marks of a list is one
    whole tag, or the comma and the space between two, and no tag ends in a space: whoever finds
    this text in the column has found the tag, and nothing else.
    """
    return '"' + json.dumps(tag)[1:-1].replace('\\"', "\\u0022") + '"'
