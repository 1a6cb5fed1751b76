"""The log of the worker: what it writes, and in which form; see the modules."""

from aftercommit.log.formats import JSONFormatter, WithTraceback
from aftercommit.log.lines import show_log, write_log
from aftercommit.log.mail import OnePerKind

__all__ = ["JSONFormatter", "OnePerKind", "WithTraceback", "show_log", "write_log"]
