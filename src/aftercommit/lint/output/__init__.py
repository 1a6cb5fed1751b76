"""Findings as people and other programs read them."""

from collections.abc import Callable

from aftercommit.lint.analysis import Report
from aftercommit.lint.output import github, json, sarif, text

FORMATS: dict[str, Callable[[Report], str]] = {
    "text": text.write,
    "json": json.write,
    "sarif": sarif.write,
    "github": github.write,
}
