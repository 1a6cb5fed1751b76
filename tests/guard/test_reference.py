"""The page of the guard lists all there is."""

import aftercommit.guard
from aftercommit.guard.adapters.names import ADAPTERS, CANNOT_WAIT, OPTIONAL
from aftercommit.guard.conf import MODES, GuardOptions, options_from
from aftercommit.race_rules import GUARD_RULES
from tests.docs import pages

PAGE = pages.ROOT / "docs" / "reference" / "guard.md"
HOW = pages.ROOT / "docs" / "how-to" / "guard.md"


def test_the_options():
    told = {row[0]: row[1] for row in pages.tables(PAGE, "## Options")}

    options = {f"`{name}`": f"`{getattr(GuardOptions(), name)!r}`" for name in told_names()}
    assert told == {**options, "`adapters`": "`{}`"}
    assert options_from({}) == GuardOptions()


def told_names():
    return list(GuardOptions.__dataclass_fields__)


def test_the_adapters():
    told = {row[0]: row[1] for row in pages.tables(PAGE, "## Adapters")}

    more = dict.fromkeys(OPTIONAL, " Off until a mode is named.")
    assert told == {f"`{name}`": f"{ADAPTERS[name]}.{more.get(name, '')}" for name in ADAPTERS}
    line = next(one for one in PAGE.read_text().splitlines() if "cannot be deferred" in one)
    assert {name for name in ADAPTERS if f"`{name}`" in line} == CANNOT_WAIT


def test_the_words():
    told = {name.partition("(")[0] for name in pages.names(PAGE, "## In code")}

    assert told == set(aftercommit.guard.__all__)
    assert all(getattr(aftercommit.guard, name) for name in told)


def test_the_rules():
    told = [row[1] for row in pages.tables(PAGE, "## Rules")]

    assert told == [rule.title for rule in GUARD_RULES.values()]


def test_the_modes():
    assert pages.names(HOW, "## Choose what happens") == list(MODES)
