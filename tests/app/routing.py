"""A router that only a test names."""

from typing import Any


class EffectsElsewhere:
    """Writes effects to the other database."""

    def db_for_write(self, model: Any, **_: Any) -> str | None:
        """Choose."""
        return "other" if model.__name__ == "Effect" else None


class Unpicklable(EffectsElsewhere):
    """Cannot be handed over."""

    def __reduce__(self) -> Any:
        raise TypeError("cannot be pickled here")
