"""Log lines about exceptions of other people's code, which may raise when they are formatted."""

import logging
from contextlib import suppress

logger = logging.getLogger("aftercommit")


def log_line(level: int, message: str, *arguments: object) -> None:
    """Log a message without a traceback; never raises, whatever a handler of the project does."""
    with suppress(BaseException):
        logger.log(level, message, *arguments)


def log_error(
    message: str, *arguments: object, error: BaseException, level: int = logging.ERROR
) -> None:
    """Log a message with the traceback of ``error``; never raises.

    The threads of a worker must go on if an exception cannot be formatted, or if a handler of
    the project raises. The message is then logged without the traceback, if that is possible.
    """
    try:
        logger.log(level, message, *arguments, exc_info=error)
    except BaseException:  # of a __str__() or a handler; it may be SystemExit
        log_line(level, f"{message} (the traceback cannot be logged)", *arguments)
