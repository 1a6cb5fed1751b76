"""The mail backend that enqueues: Django's ``send_mail()`` becomes a row of the transaction."""

import logging
from collections.abc import Sequence
from typing import Any

from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend
from django.db import Error, connections

from aftercommit.enqueue.configured import our_backend
from aftercommit.enqueue.many import enqueue_many
from aftercommit.errors import PayloadError, PayloadTooLarge
from aftercommit.mail.messages import TASK, packed
from aftercommit.mail.sending import check_mailer, mail_task

logger = logging.getLogger("aftercommit")


class EmailBackend(BaseEmailBackend):
    """Enqueues a job for each mail, in the transaction that is open on the jobs' database.

    The worker sends it by the real backend: by the one of ``MAILERS`` that the option ``mailer``
    names, or, where settings have no ``MAILERS``, by AFTERCOMMIT_EMAIL_BACKEND (default: Django's
    SMTP). ``tasks``: the alias in TASKS; ``queue``: of the jobs. A mail that is larger than
    ``max_payload`` of that alias, attachments included, raises ``PayloadTooLarge``, and one that
    is no JSON ``PayloadError``; with ``fail_silently`` such a mail is logged and left out. So is
    one that a database error keeps from being enqueued, if no transaction is open there; inside
    a transaction, which it may have broken, the error is raised in any case.
    """

    def __init__(
        self,
        fail_silently: bool = False,
        *,
        mailer: str | None = None,
        tasks: str = "default",
        queue: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.fail_silently = fail_silently
        self._mailer, self._tasks, self._queue = mailer, tasks, queue
        check_mailer(mailer)

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        """Enqueue mails; return how many."""
        backend = our_backend(self._tasks, needed_by="aftercommit.mail")
        task: Any = mail_task(backend)
        if self._queue is not None:
            task = task.using(queue_name=self._queue)
        sent = 0
        for mail in email_messages:
            if mail.recipients():
                sent += self._enqueue(task, mail, using=backend.using)
        return sent

    def _enqueue(self, task: Any, mail: EmailMessage, *, using: str) -> int:
        in_transaction = _in_transaction(connections[using])
        try:
            enqueue_many(task, [{"mailer": self._mailer, "mail": packed(mail)}])
        except PayloadTooLarge as error:
            raised: Exception = PayloadTooLarge(
                what=f"a mail ({str(mail.subject)!r:.80}, attachments: {len(mail.attachments)})",
                size=error.size,
                limit=error.limit,
                task_path=TASK,
            )
        except PayloadError as error:
            raised = error
        except Error as error:
            if not self.fail_silently or in_transaction:
                raise
            # Without its text, which may have the row.
            logger.warning(
                "A mail was not enqueued: database %r: %s", using, type(error).__qualname__
            )
            return 0
        else:
            return 1
        if not self.fail_silently:
            raise raised
        logger.warning("A mail was not enqueued: %s", raised)
        return 0


def _in_transaction(connection: Any) -> bool:
    """Return whether Django is in a transaction, which an error may break.

    Not asked is the driver: of a connection that is lost it knows nothing.
    """
    return connection.in_atomic_block or not (
        connection.connection is None or connection.autocommit
    )
