"""Functions that Django enters in a transaction, by what the settings say."""

import pytest

from aftercommit.lint.configuration import Configuration
from aftercommit.race_rules import Severity
from tests.lint.projects import findings, only

ON = 'DATABASES = {"default": {"ENGINE": "x", "ATOMIC_REQUESTS": True}}\n'
OFF = 'DATABASES = {"default": {"ENGINE": "x"}}\n'
VIEW = """
def buy(request):
    request.user.save()
    send.delay(request.user.pk)
"""
SETTINGS = {
    "literal": ON,
    "by a variable": 'BASE = {"ATOMIC_REQUESTS": True}\nDATABASES = {"default": {**BASE}}\n',
    "by an item": OFF + 'DATABASES["default"]["ATOMIC_REQUESTS"] = True\n',
    "by update": OFF + 'DATABASES["default"].update(ATOMIC_REQUESTS=True)\n',
    "after a URL": 'import environ\nenv = environ.Env()\nDATABASES = {"default": env.db()}\n'
    'DATABASES["default"]["ATOMIC_REQUESTS"] = True\n',
    "default of the environment": 'DATABASES = {"default": {"ATOMIC_REQUESTS": '
    'env.bool("X", default=True)}}\n',
    "for all": OFF + 'for alias in DATABASES:\n    DATABASES[alias]["ATOMIC_REQUESTS"] = True\n',
    "in a class": "class Base:\n    " + ON,
    "as a property": "class Base:\n    @property\n    def DATABASES(self):\n"
    '        return {"default": {"ATOMIC_REQUESTS": True}}\n',
}
NO_EFFECT = {
    "off": OFF,
    "false": OFF + 'DATABASES["default"]["ATOMIC_REQUESTS"] = False\n',
    "at the top": OFF + "ATOMIC_REQUESTS = True\n",
    "in a comment": OFF + '# DATABASES["default"]["ATOMIC_REQUESTS"] = True\n',
}
ENDPOINTS = {
    "AC206 function": VIEW,
    "AC206 class": """
        from django.views import View
        class Buy(View):
            def post(self, request):
                self.finish(request)
            def finish(self, request):
                order = Order.objects.create()
                send.delay(order.pk)
    """,
    "AC206 non_atomic_requests on another method": """
        from django.utils.decorators import method_decorator
        from django.views import View
        @method_decorator(transaction.non_atomic_requests, name="options")
        class Buy(View):
            def post(self, request):
                order = Order.objects.create()
                send.delay(order.pk)
    """,
    "AC206 a dispatch() of its own below non_atomic_requests": """
        from django.utils.decorators import method_decorator
        from django.views import View
        @method_decorator(transaction.non_atomic_requests, name="dispatch")
        class Base(View): ...
        class Buy(Base):
            def dispatch(self, request): ...
            def post(self, request):
                order = Order.objects.create()
                send.delay(order.pk)
    """,
    "AC206 through a service": """
        def service(user):
            Order.objects.create()
            send.delay(user.pk)
        def buy(request):
            service(request.user)
    """,
    "AC206 an action of the admin": """
        from django.contrib import admin
        class OrderAdmin(admin.ModelAdmin):
            def remind(self, request, queryset):
                Order.objects.create()
                send.delay(1)
    """,
    "AC207 viewset": """
        from rest_framework.viewsets import ModelViewSet
        class Orders(ModelViewSet):
            def perform_create(self, serializer):
                Order.objects.create()
                send.delay(1)
    """,
    "AC207 api_view of a mixin of the project": """
        from rest_framework.views import APIView
        class Base(APIView): ...
        class Orders(Base):
            def post(self, request):
                Order.objects.create()
                send.delay(1)
    """,
    "AC207 ninja": """
        from ninja import Router
        router = Router()
        @router.post("/orders")
        def buy(request):
            Order.objects.create()
            send.delay(1)
    """,
    "AC207 ninja extra": """
        from ninja_extra import api_controller, route
        @api_controller("/orders")
        class Orders:
            @route.post("/")
            def buy(self):
                Order.objects.create()
                send.delay(1)
    """,
    "AC207 strawberry": """
        import strawberry
        @strawberry.type
        class Mutation:
            @strawberry.mutation
            def buy(self, pk: int) -> None:
                Order.objects.filter(pk=pk).update(paid=True)
                send.delay(pk)
    """,
    "AC207 graphene": """
        import graphene
        class Buy(graphene.Mutation):
            def mutate(self, info, pk):
                Order.objects.filter(pk=pk).update(paid=True)
                send.delay(pk)
    """,
    "AC208 serializer": """
        from rest_framework import serializers
        class OrderSerializer(serializers.ModelSerializer):
            def create(self, data):
                Order.objects.create()
                send.delay(1)
    """,
}
OUTSIDE = {
    "non_atomic_requests": "@transaction.non_atomic_requests\n" + VIEW.lstrip(),
    "non_atomic_requests on the class": """
        from django.utils.decorators import method_decorator
        from django.views import View
        @method_decorator(transaction.non_atomic_requests, name="dispatch")
        class Buy(View):
            def post(self, request):
                request.user.save()
                send.delay(request.user.pk)
    """,
    "non_atomic_requests among others, on a class above": """
        from django.utils.decorators import method_decorator
        from django.views import View
        @method_decorator([transaction.non_atomic_requests], "dispatch")
        class Base(View): ...
        class Buy(Base):
            def post(self, request):
                request.user.save()
                send.delay(request.user.pk)
    """,
    "non_atomic_requests on dispatch()": """
        from django.utils.decorators import method_decorator
        from django.views import View
        class Buy(View):
            @method_decorator(transaction.non_atomic_requests)
            def dispatch(self, request): ...
            def post(self, request):
                request.user.save()
                send.delay(request.user.pk)
    """,
    "non_atomic_requests in the URLs": """
        from django.urls import path
        from django.views import View
        class Buy(View):
            def post(self, request):
                request.user.save()
                send.delay(request.user.pk)
        urlpatterns = [path("", transaction.non_atomic_requests(Buy.as_view()))]
    """,
    "non_atomic_requests of a function in the URLs": VIEW
    + 'urlpatterns = [path("", transaction.non_atomic_requests(buy))]\n',
    "asynchronous": VIEW.replace("def buy", "async def buy"),
    "a task": """
        from celery import shared_task
        @shared_task
        def work(request):
            Order.objects.create()
            send.delay(1)
    """,
    "a middleware": """
        class Middleware:
            def __call__(self, request):
                Order.objects.create()
                send.delay(1)
    """,
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_make_views_transactions(name, tmp_path):
    found = only(tmp_path, VIEW, **{"config/settings.py": SETTINGS[name]})

    assert [rule for rule, _ in found] == ["AC206"]


@pytest.mark.parametrize("name", NO_EFFECT)
def test_settings_that_only_seem_to_do_not(name, tmp_path):
    found = only(tmp_path, VIEW, **{"config/settings.py": NO_EFFECT[name]})

    assert [rule for rule, _ in found] == ["AC301"]


def test_settings_of_tests_do_not_count_and_named_ones_alone_do(tmp_path):
    files = {
        "config/settings/__init__.py": "",
        "config/settings/base.py": OFF,
        "config/settings/site.py": "from .base import *\n"
        'DATABASES["default"]["ATOMIC_REQUESTS"] = True\n',
        "config/settings/testing.py": ON,
        "shop/tasks.py": "from celery import shared_task\n@shared_task\ndef send(pk): ...\n",
        "shop/views.py": f"from shop.tasks import send\n{VIEW}",
    }

    def rules(settings):
        configuration = Configuration(severity=Severity.POLICY, settings=settings)
        return [one.rule for one in findings(tmp_path, files, configuration)]

    assert rules("config.settings.site") == ["AC206"]
    assert rules("config.settings.base") == ["AC301"]
    del files["config/settings/site.py"]
    (tmp_path / "project" / "config" / "settings" / "site.py").unlink()
    assert rules("") == ["AC301"]


@pytest.mark.parametrize("name", ENDPOINTS)
def test_what_answers_a_request_is_in_its_transaction(name, tmp_path):
    found = only(tmp_path, ENDPOINTS[name], **{"config/settings.py": ON})

    assert [rule for rule, _ in found] == [name[:5]]


@pytest.mark.parametrize("name", OUTSIDE)
def test_what_runs_outside_of_the_requests_transaction_is_not(name, tmp_path):
    found = only(tmp_path, OUTSIDE[name], **{"config/settings.py": ON})

    assert [rule for rule, _ in found] == ["AC301"]


@pytest.mark.parametrize(
    ("write", "rule"),
    [
        ("Order.objects.create()", "AC201"),
        ("order.save()", "AC201"),
        ("with transaction.atomic():\n        Order.objects.create()", "AC102"),
        ("with transaction.atomic():\n        order.save()", "AC102"),
    ],
)
def test_a_receiver_is_an_error_where_a_save_in_a_transaction_reaches_it(write, rule, tmp_path):
    code = f"""
from django.db.models.signals import post_save
from django.dispatch import receiver
@receiver(post_save, sender=Order)
def saved(sender, instance, **kwargs):
    send.delay(instance.pk)
def f(order: Order):
    {write}
"""
    assert [found for found, _ in only(tmp_path, code)] == [rule]


@pytest.mark.parametrize(
    ("signal", "rules"),
    [
        ("django.db.models.signals.m2m_changed", ["AC202"]),
        ("django.db.models.signals.pre_delete", ["AC202"]),
        ("django.db.models.signals.pre_save", ["AC201"]),
        ("django.core.signals.request_finished", ["AC301"]),
        ("celery.signals.task_success", ["AC301"]),
        ("allauth.account.signals.email_confirmed", ["AC203"]),
    ],
)
def test_receivers_are_told_apart_by_their_signal(signal, rules, tmp_path):
    module, _, name = signal.rpartition(".")
    code = f"""
from {module} import {name}
def received(sender, **kwargs):
    send.delay(kwargs["pk"])
{name}.connect(received)
"""
    assert [rule for rule, _ in only(tmp_path, code)] == rules
