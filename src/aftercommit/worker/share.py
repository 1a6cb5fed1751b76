"""A part of all jobs, for inline workers that divide them."""

from dataclasses import dataclass
from uuid import UUID

from aftercommit.errors import ConfigurationError
from aftercommit.options.checked import check_counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One of several equal parts of all jobs, by their ids.

    Raises ``ConfigurationError`` unless ``1 <= which <= outof``.
    """

    which: int = 1
    outof: int = 1

    def __post_init__(self) -> None:
        check_counts(which=self.which, outof=self.outof)
        if not self.which <= self.outof:
            raise ConfigurationError(
                f"--which {self.which} --outof {self.outof}: expected 1 <= which <= outof."
            )

    def holds(self, job_id: UUID) -> bool:
        """Return whether a job belongs to this part."""
        return job_id.int % self.outof == self.which - 1
