"""Which databases hold jobs."""

from aftercommit.enqueue.configured import job_aliases
from aftercommit.store import default_alias


def databases() -> list[str]:
    """Return the aliases that contain jobs; the one where the router writes them is first."""
    usual = default_alias()
    return sorted(job_aliases() or [usual], key=lambda alias: alias != usual)
