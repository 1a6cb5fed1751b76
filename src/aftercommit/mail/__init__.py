"""Mail as a part of the transaction: ``EMAIL_BACKEND = "aftercommit.mail.EmailBackend"``."""

from aftercommit.mail.backend import EmailBackend

__all__ = ["EmailBackend"]
