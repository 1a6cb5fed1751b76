"""What rates and the limits of queues remember."""

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from aftercommit.models.portable import Name
from aftercommit.models.readable import Identity, Moment


class Rate(models.Model):
    """How far the starts of one key are used up; a key without a row has all of its burst.

    ``tat`` is the theoretical arrival time of the generic cell rate algorithm (ITU-T I.371): the
    moment from which on nothing is used up any more. A row whose moments are over says nothing,
    and may be deleted.
    """

    key = Name(max_length=150, primary_key=True)
    tat = Moment()
    paused_until = Moment(null=True)  # a task has said so: a provider has refused

    class Meta:
        verbose_name = _("rate")
        verbose_name_plural = _("rates")
        default_permissions = ("view",)

    def __str__(self) -> str:
        return str(self.key)


class Slot(models.Model):
    """One slot of a queue with a limit.

    It is taken while its job is running under this token, so nobody has to give it back.
    """

    key = Name(max_length=150)
    number = models.IntegerField()  # from 1 on
    job_id = Identity()
    token = models.BigIntegerField()

    class Meta:
        verbose_name = _("slot")
        verbose_name_plural = _("slots")
        default_permissions = ("view",)
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["key", "number"], name="aftercommit_slot_once")
        ]

    def __str__(self) -> str:
        return f"{self.key} {self.number}"
