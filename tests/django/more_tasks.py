"""Imported by nobody but ``OPTIONS["task_modules"]``."""

from aftercommit import task


@task
def rare():
    """Be found late."""
