"""Tasks outside of ``tasks.py``: nobody imports this module but who looks for a task."""

from aftercommit import task


@task
def found_late(*args):
    """Return the arguments."""
    return list(args)


def not_a_task():
    """Be a plain function."""


class Shelf:
    """Holds a task that is no function of the module."""

    @staticmethod
    @task
    def found_in_a_class():
        """Return where this is."""
        return "in a class"


def _hidden():
    """Return under which name this was enqueued."""
    return "renamed"


renamed = task(_hidden)
