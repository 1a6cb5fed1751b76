"""Imported by workers as a module of tasks: they look for old jobs at once, and each second."""

from datetime import timedelta

from aftercommit.worker.upkeep import pruner

pruner.LOOK_EVERY = timedelta(seconds=1)
