"""A task that starts processes by itself."""

from multiprocessing import get_context

from aftercommit import task


@task
def spawn(number: int) -> int:
    """Let processes of each kind compute, which import what the worker has imported."""
    for method in ("spawn", "forkserver"):
        with get_context(method).Pool(1) as pool:
            assert pool.map(twice, [number]) == [2 * number]
    return 2 * number


def twice(number: int) -> int:
    """Compute."""
    return 2 * number
