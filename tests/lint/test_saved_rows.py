"""save() of a model is in a transaction of Django's where the project has the model saved so."""

import pytest

from tests.lint.projects import findings

OFF = 'DATABASES = {"default": {"ENGINE": "x"}}\n'
ON = 'DATABASES = {"default": {"ENGINE": "x", "ATOMIC_REQUESTS": True}}\n'
MODELS = """
from django.db import models
from shop.tasks import send
class Base(models.Model):
    def {method}(self, *args, **kwargs):
        super().{method}(*args, **kwargs)
        send.delay(self.pk)
class Order(Base): ...
class Other(models.Model): ...
"""
ADMIN = {
    "a decorator": "@admin.register(Order)\nclass OrderAdmin(admin.ModelAdmin): ...",
    "a decorator for several": "@admin.register(Other, Order)\nclass A(admin.ModelAdmin): ...",
    "a call": "admin.site.register(Order)",
    "a call for several": "admin.site.register([Other, Order])",
    "an inline": "class OrderInline(admin.TabularInline):\n    model = Order",
}
PAIRS = {
    "get_or_create": "def f():\n    return Order.objects.get_or_create(pk=1)",
    "update_or_create": "def f():\n    return Order.objects.update_or_create(pk=1)",
}
NEITHER = {
    "nothing": "",
    "another model": "admin.site.register(Other)\n"
    "def f():\n    Other.objects.get_or_create(pk=1)",
    "a plain class": "class Order2:\n    model = Order",
}


def rules(folder, code, method="save", settings=OFF):
    files = {
        "config/settings.py": settings,
        "shop/tasks.py": "from celery import shared_task\n@shared_task\ndef send(pk): ...\n",
        "shop/models.py": MODELS.format(method=method),
        "shop/code.py": "from django.contrib import admin\n"
        f"from shop.models import Order, Other\n{code}\n",
    }
    return [one.rule for one in findings(folder, files)]


@pytest.mark.parametrize("name", ADMIN)
@pytest.mark.parametrize("method", ["save", "delete"])
def test_the_admin_saves_and_deletes_in_a_transaction(name, method, tmp_path):
    assert rules(tmp_path, ADMIN[name], method) == ["AC204"]


@pytest.mark.parametrize("name", PAIRS)
def test_so_does_get_or_create_which_deletes_nothing(name, tmp_path):
    assert rules(tmp_path / "a", PAIRS[name]) == ["AC204"]
    assert rules(tmp_path / "b", PAIRS[name], "delete") == ["AC301"]


@pytest.mark.parametrize("name", NEITHER)
def test_other_rows_are_their_callers_matter(name, tmp_path):
    assert rules(tmp_path / "a", NEITHER[name]) == ["AC301"]
    assert rules(tmp_path / "b", NEITHER[name], settings=ON) == ["AC204"]
    assert rules(tmp_path / "c", NEITHER[name], settings="") == ["AC204"]
