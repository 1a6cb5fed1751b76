"""Log lines about exceptions of other people's code, which may raise when they are formatted."""

import logging
from contextlib import suppress

logger = logging.getLogger("aftercommit")


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
        with suppress(BaseException):
            logger.log(level, f"{message} (the traceback cannot be logged)", *arguments)
