"""Spans and numbers as people say them: ``0.4 s``, ``2 min 5 s``, ``1 process``."""

from datetime import timedelta

UNITS = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))
TENTHS_BELOW, WHOLE_FROM = 0.1, 10  # seconds; between them with one decimal


def spoken(span: timedelta) -> str:
    """Return a span in its two largest units; what is below a millisecond is ``0 s``."""
    seconds = span.total_seconds()
    if seconds < WHOLE_FROM:
        return f"{round(seconds, 3 if seconds < TENTHS_BELOW else 1):g} s"
    left = round(seconds)
    parts: list[str] = []
    for unit, size in UNITS:
        number, left = divmod(left, size)
        if number or parts:
            parts.append(f"{number} {unit}" if number else "")
    return " ".join(filter(None, parts[:2]))


def counted(number: int, one: str, many: str | None = None) -> str:
    """Return a number with its word: ``1 job``, ``2 jobs``; ``many``: an irregular plural."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"
