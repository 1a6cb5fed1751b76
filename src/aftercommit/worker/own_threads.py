"""What middleware puts around the threads of the worker itself, such as a stop of tracing.

Else an instrumented driver would make a span of each statement of an idle worker. Runs of tasks
have a context of their own, which has nothing of it.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from aftercommit.enqueue.configured import our_backends
from aftercommit.options.functions import imported
from aftercommit.safe_log import log_error


@contextmanager
def unobserved() -> Iterator[None]:
    """Enter the context managers that ``around_worker`` of each middleware returns."""
    with ExitStack() as stack:
        try:
            for enter in _around_worker():
                stack.enter_context(enter())
        except Exception as error:  # the worker goes on, and is observed
            log_error("around_worker() of a middleware has failed", error=error)
        yield


def _around_worker() -> list[Callable[[], AbstractContextManager[object]]]:
    factories = {
        factory
        for backend in our_backends()
        for factory in imported("middleware", backend.config.middleware)
    }
    found = (getattr(one, "around_worker", None) for one in factories)
    return [one for one in found if one is not None]
