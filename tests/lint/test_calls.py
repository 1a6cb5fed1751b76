"""Transactions are followed along the calls that imports and types resolve."""

import pytest

from tests.lint.projects import findings

TASKS = "from celery import shared_task\n@shared_task\ndef send(pk): ...\n"
NOTIFY = "from shop.tasks import send\ndef notify(order):\n    send.delay(order.pk)\n"
CLASS = """
from shop.tasks import send
class Base:
    def tell(self, order):
        send.delay(order.pk)
class Notifier(Base):
    def process(self, order):
        self.tell(order)
"""
START = "from django.db import transaction\n"
WAYS = {
    "an import": ("from shop.n import notify", "notify(order)"),
    "a module": ("import shop.n", "shop.n.notify(order)"),
    "an alias": ("from shop import n as other", "other.notify(order)"),
    "a name of the package": ("from shop import notify", "notify(order)"),
    "a star": ("from shop.every import *", "notify(order)"),
    "an import in the function": ("", "from shop.n import notify\n        notify(order)"),
    "a method": ("from shop.c import Notifier", "Notifier().process(order)"),
    "a variable": ("from shop.c import Notifier", "n = Notifier()\n        n.process(order)"),
    "a lambda": ("from shop.n import notify", "go = lambda: notify(order)\n        go()"),
    "a function that calls what it gets": (
        "from shop.n import notify\ndef each(function, one):\n    function(one)",
        "each(notify, order)",
    ),
    "a context": (
        "from shop.c import Notifier\ndef notifier() -> Notifier: ...",
        "notifier().process(order)",
    ),
    "an attribute": (
        "from shop.c import Notifier\n"
        "class S:\n    def __init__(self):\n        self.n = Notifier()\n"
        "    def go(self, order):\n        self.n.process(order)",
        "S().go(order)",
    ),
    "an annotation of a class": (
        "from shop.c import Notifier\nclass S:\n    n: Notifier\n"
        "    def go(self, order):\n        self.n.process(order)",
        "S().go(order)",
    ),
}


@pytest.mark.parametrize("name", WAYS)
def test_a_transaction_is_followed_through(name, tmp_path):
    head, call = WAYS[name]
    files = {
        "shop/__init__.py": "from .n import notify\n",
        "shop/tasks.py": TASKS,
        "shop/n.py": NOTIFY,
        "shop/every.py": "from .n import *\n",
        "shop/c.py": CLASS,
        "shop/code.py": f"{START}{head}\n\ndef f(order):\n    with transaction.atomic():\n"
        f"        order.save()\n        {call}\n",
    }

    found = [one for one in findings(tmp_path, files) if one.rule != "AC301"]

    assert [(one.rule, one.severity) for one in found] == [("AC102", "error")]
    assert found[0].chain[0].text == "the transaction is opened here"
    assert found[0].chain[0].path.endswith("code.py")


def test_a_parameter_without_a_type_is_a_guess_by_name(tmp_path):
    files = {
        "shop/tasks.py": TASKS,
        "shop/c.py": CLASS.replace("process", "announce_order"),
        "shop/code.py": f"{START}def f(order, n):\n    with transaction.atomic():\n"
        "        order.save()\n        n.announce_order(order)\n",
    }

    assert [one.rule for one in findings(tmp_path, files)] == ["AC209"]


def test_common_names_are_no_guess(tmp_path):
    files = {
        "shop/tasks.py": TASKS,
        "shop/c.py": CLASS,
        "shop/code.py": f"{START}def f(order, n):\n    with transaction.atomic():\n"
        "        n.process(order)\n",
    }

    assert [one.rule for one in findings(tmp_path, files)] == ["AC301"]


def test_calls_in_circles_come_to_an_end(tmp_path):
    files = {
        "shop/tasks.py": TASKS,
        "shop/a.py": f"{START}from shop.b import g\nfrom shop.tasks import send\n"
        "@transaction.atomic\ndef f(o):\n    g(o)\n",
        "shop/b.py": "import shop.a\nfrom shop.tasks import send\n"
        "class A(A): ...\nx = y\ny = x\n"
        "def g(o):\n    shop.a.f(o)\n    g(o)\n    o.save()\n    send.delay(o.pk)\n",
    }

    assert [one.rule for one in findings(tmp_path, files)] == ["AC102"]


def test_a_callback_that_is_made_of_itself_comes_to_an_end(tmp_path):
    files = {
        "shop/tasks.py": TASKS,
        "shop/a.py": f"{START}from functools import partial\nfrom shop.tasks import send\n"
        "def each(function, one):\n    function(one)\n"
        "def notify(o):\n    send.delay(o.pk)\n"
        "def f(o, other=None):\n    other = notify if other is None else other\n"
        "    other = partial(other, 1)\n"
        "    with transaction.atomic():\n        o.save()\n        each(other, o)\n",
    }

    assert [one.rule for one in findings(tmp_path, files)] == ["AC102"]


def test_one_guess_is_enough(tmp_path):
    """A receiver may run in a transaction; a method that only its name tells is no second one."""
    receiver = (
        "from django.db.models.signals import post_save\nfrom django.dispatch import receiver\n"
        "from shop.models import Order\n@receiver(post_save, sender=Order)\n"
        "def on_save(sender, instance, notifier, **kwargs):\n"
    )
    inside = f"{START}def f(o, notifier):\n    with transaction.atomic():\n        o.save()\n    "

    def rules(start):
        files = {
            "shop/models.py": "from django.db import models\nclass Order(models.Model): ...\n",
            "shop/tasks.py": TASKS,
            "shop/n.py": "from shop.tasks import send\nclass Notifier:\n"
            "    def tell_everybody(self, o):\n        send.delay(o.pk)\n",
            "shop/a.py": f"{start}    notifier.tell_everybody(o)\n",
        }
        return [one.rule for one in findings(tmp_path, files)]

    assert rules(inside) == ["AC209"]
    assert rules(receiver) == ["AC301"]


def test_transactions_of_tests_say_nothing_about_the_project(tmp_path):
    files = {
        "shop/tasks.py": TASKS,
        "shop/n.py": NOTIFY,
        "shop/tests/test_n.py": f"{START}from shop.n import notify\n@transaction.atomic\n"
        "def test(o):\n    notify(o)\n",
    }

    assert [one.rule for one in findings(tmp_path, files)] == ["AC301"]
