"""The tasks of the benchmark of graphs."""

from aftercommit import task


@task
def price(number: int) -> int:
    """Return what is given."""
    return number


@task
def total(prices: list[int]) -> int:
    """Return the sum."""
    return sum(prices)
