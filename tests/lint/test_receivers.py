"""A receiver of post_save is an error where the save in the transaction gets to its dispatch."""

import pytest

from aftercommit.lint.conditions import contradict
from tests.lint.projects import findings

MODELS = """
from django.db import models
class Order(models.Model): ...
"""
RECEIVER = """
from django.db.models.signals import post_save
from django.dispatch import receiver
from shop.models import Order
from shop.tasks import send
@receiver(post_save, sender=Order)
def on_save(sender, instance, created, update_fields=None, **kwargs):
    {}
        send.delay(instance.pk)
"""
CREATE = "Order.objects.create()"
FIND = "Order.objects.get_or_create()"
NEW = "order = Order()\n        order.save()"
OLD = "order = Order.objects.get(pk=1)\n        order.save()"
PART = "order = Order.objects.get(pk=1)\n        order.save(update_fields=['paid'])"
UNKNOWN = "order = Order.objects.get(pk=1)\n        order.save(**words)"
POSSIBLE = [
    (CREATE, "if created:"),
    (CREATE, "if kwargs['created']:"),
    (CREATE, "if update_fields is None:"),
    (CREATE, "if created or update_fields:"),
    (CREATE, "if not (created and update_fields):"),
    (CREATE, "if instance.paid:"),
    (FIND, "if not update_fields:"),
    (NEW, "if created:"),
    (OLD, "if not created:"),
    (OLD, "if created:"),  # nothing says that it is not: the key may be one's own
    (PART, "if update_fields and 'paid' in update_fields:"),
    (UNKNOWN, "if update_fields:"),
]
IMPOSSIBLE = [
    (CREATE, "if not created:"),
    (CREATE, "if not created and instance.paid:"),
    (CREATE, "if kwargs.get('update_fields'):"),
    (CREATE, "if update_fields is not None and 'paid' in update_fields:"),
    (CREATE, "if created: pass\n    else:"),
    (CREATE, "if created: return\n    if True:"),
    (CREATE, "if not update_fields or 'paid' not in update_fields: return\n    for _ in [1]:"),
    (CREATE, "if 'paid' not in update_fields: raise KeyError\n    with a:"),
    (FIND, "if not created:"),
    (NEW, "if not created:"),
    ("Order().save(force_insert=True)", "if not created:"),
    (OLD, "if update_fields:"),
    (PART, "if not update_fields:"),
]


def rules(folder, write, condition, **more):
    files = {
        "shop/models.py": MODELS,
        "shop/tasks.py": "from celery import shared_task\n@shared_task\ndef send(pk): ...\n",
        "shop/receivers.py": RECEIVER.format(condition),
        "shop/code.py": "from django.db import transaction\nfrom shop.models import Order\n"
        f"def f(words):\n    with transaction.atomic():\n        {write}\n",
        **more,
    }
    return [one.rule for one in findings(folder, files)]


@pytest.mark.parametrize(("write", "condition"), POSSIBLE)
def test_a_dispatch_that_the_save_reaches_is_an_error(write, condition, tmp_path):
    assert rules(tmp_path, write, condition) == ["AC102"]


@pytest.mark.parametrize(("write", "condition"), IMPOSSIBLE)
def test_a_dispatch_that_it_does_not_reach_is_a_warning(write, condition, tmp_path):
    assert rules(tmp_path, write, condition) == ["AC201"]


def test_any_save_in_a_transaction_that_reaches_it_is_enough(tmp_path):
    other = (
        "from django.db import transaction\nfrom shop.models import Order\n"
        "@transaction.atomic\ndef g(order: Order):\n    order.save(update_fields=['paid'])\n"
    )

    assert rules(tmp_path, CREATE, "if update_fields:", **{"shop/d.py": other}) == ["AC102"]


def test_a_condition_counts_for_what_the_receiver_calls(tmp_path):
    call = "if not created:\n        notify(instance)\ndef notify(instance):\n    if True:"

    assert rules(tmp_path / "a", CREATE, call) == ["AC201"]
    assert rules(tmp_path / "b", OLD, call) == ["AC102"]


KNOWS = """
from django.db import models, transaction
class Base(models.Model):
    def save(self, *args, **kwargs):
        super().save(*args, **kwargs)
class Order(Base):
    def save(self, *args, **kwargs):
        created = not self.pk
        if not created:
            return
        with transaction.atomic():
            super().save(*args, **kwargs)
"""


def test_a_save_that_knows_whether_the_row_is_new_says_so(tmp_path):
    models = {"shop/models.py": KNOWS}

    assert rules(tmp_path / "a", "pass", "if not created:", **models) == ["AC201"]
    assert rules(tmp_path / "b", "pass", "if created:", **models) == ["AC102"]


def test_conditions_contradict_each_other_word_by_word():
    created, changed = frozenset({"created"}), frozenset({"!created", "update_fields"})

    assert contradict(created, changed) and contradict(changed, created)
    assert not contradict(created, created) and not contradict(created, frozenset())
