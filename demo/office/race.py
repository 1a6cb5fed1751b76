"""The same rows in two ways: a job for each, and five hundred jobs in one call."""

from django.db.models import Count, Max

from office.models import ONE_BY_ONE, TOGETHER, Race
from office.tasks import write_many, write_one

ROWS = 1000


def start_race() -> Race:
    """Enqueue as many jobs of each kind at the same moment."""
    race = Race.objects.create(rows=ROWS)
    calls = [(race.pk, number) for number in range(ROWS)]
    write_one.enqueue_many(calls)
    write_many.enqueue_many(calls)
    return race


def standings() -> list[dict[str, str]]:
    """Return how far the latest race is, and how fast each way was."""
    race = Race.objects.order_by("-pk").first()
    if race is None:
        return []
    counted = race.readings.values("way").annotate(rows=Count("pk"), last=Max("written"))
    found = {one["way"]: one for one in counted}
    return [_standing(race, way, found.get(way)) for way in (ONE_BY_ONE, TOGETHER)]


def _standing(race: Race, way: str, found: dict | None) -> dict[str, str]:
    rows = found["rows"] if found else 0
    seconds = (found["last"] - race.created).total_seconds() if found else 0
    return {
        "key": f"{race.pk} {way}",
        "way": way,
        "state": "succeeded" if rows == race.rows else "running",
        "done": f"{rows / race.rows:.3f}",
        "said": f"{rows:,} of {race.rows:,} rows",
        "speed": f"{rows / seconds:,.0f} a second" if seconds > 0 else "",
    }
