"""The guards of free slots that the database gives away itself, each weakened in memory."""

from types import ModuleType

import pytest

from aftercommit.store.base import Store
from aftercommit.store.limits.rounds import Round, Rounds
from tests.store.mutants import rewrite


def grants() -> ModuleType:
    """Return the module, whose driver need not be there."""
    from aftercommit.store.postgresql import grants as module  # noqa: PLC0415

    return module


def _without(patch: pytest.MonkeyPatch, name: str, part: str, text: str, instead: str) -> None:
    parts = getattr(grants(), name)
    assert text in parts[part]
    patch.setitem(parts, part, parts[part].replace(text, instead))


def locked_jobs_are_charged(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Take a token for each job that was locked, whether it is claimed or not."""
    started = "SELECT limit_key, COUNT(*) AS number_started FROM claimed GROUP BY limit_key"
    locked = (
        "SELECT first.limit_key, COUNT(*) AS number_started FROM locked "
        "JOIN first USING (id) GROUP BY first.limit_key"
    )
    rewrite(patch, grants(), "CHARGED", (started, locked))


def keys_of_others_are_taken_for_free(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Give slots of a key that somebody else is deciding about."""
    lock = "pg_try_advisory_xact_lock(hashtextextended('aftercommit:' || limit_key, 0))"
    rewrite(patch, grants(), "SURVEY", (lock, "true"))


def slots_in_use_are_free(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Give as many slots as the limit says, whoever runs."""
    _without(patch, "OF_LIMITS", "room", " - cardinality(taken)", "")


def slots_are_numbered_anew(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Give the first slots, whoever has them."""
    rewrite(patch, grants(), "GRANT", ("COALESCE(given.free[place], place)", "place"))


def lines_are_no_obstacle(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Give slots to new jobs, whoever waits aside."""
    _without(patch, "OF_LIMITS", "has_line", "IS NOT NULL", "IS NULL AND false")


def ordered_keys_are_as_all_others(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Give a slot to the next one also if the one before is to run again."""
    terms = grants()._terms

    def any_order(query: object, found: object) -> object:
        of_any = query.limit_of  # type: ignore[attr-defined]

        class Query:
            rate_of = query.rate_of  # type: ignore[attr-defined]

            @staticmethod
            def limit_of(path: str) -> object:
                return of_any(path)._replace(ordered=False)

        return terms(Query, found)

    patch.setattr(grants(), "_terms", any_order)


def tokens_are_not_charged(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Forget what has started."""
    patch.setattr(grants(), "CHARGED", "")


def tokens_last_for_ever(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Start as many as have slots."""
    _without(patch, "OF_RATES", "room", ", (span - ahead) / every", "")


def pauses_are_no_obstacle(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Start jobs of a key that a task has paused."""
    _without(patch, "OF_RATES", "has_line", "paused_until > statement_timestamp()", "false")


def nobody_hears_of_jobs_without_a_token(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Leave them where they are."""
    patch.setattr(grants(), "UNPAID", "0")


def all_are_parked(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Park jobs without a slot, whatever the threads have to do."""
    patch.setattr(Rounds, "needed", None)


def none_is_parked(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Leave jobs without a slot in front of others that could run."""
    patch.setattr(Rounds, "needed", 0)


def nobody_says_that_they_park(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Let the end of a run find nobody who is about to park a job of its key."""
    from aftercommit.store.postgresql import limits, limits_sql  # noqa: PLC0415

    silent = (limits_sql.MAY_PARK, "(SELECT true) AS may_park")
    rewrite(patch, limits, "LOOK", silent)
    rewrite(patch, limits, "TRY_KEYS", silent)


def what_is_behind_is_not_looked_at(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Park for an idle thread after a look at the front alone."""
    decided = Rounds.decided

    def short(self: Rounds, now: Round) -> None:
        decided(self, now._replace(look=now.look._replace(full=False)))

    patch.setattr(Rounds, "decided", short)
