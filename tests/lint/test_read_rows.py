"""What a request only reads may be told to a task before its commit."""

import pytest

from tests.lint.projects import only

ON = {"config/settings.py": 'DATABASES = {"default": {"ENGINE": "x", "ATOMIC_REQUESTS": True}}\n'}
HEAD = """
from django.db import connection
from django.shortcuts import get_object_or_404
from django.views import View
from shop.forms import Form
from shop.models import Order
def pay(order):
    order.save()
def make(user):
    return Order.objects.create(user=user)
"""
READ = {
    "the user": "request.user.message.save()\n    send.delay(request.org.pk)",
    "the address": "request.user.save()\n    send.delay(pk)",
    "a row": "order = get_object_or_404(Order, pk=pk)\n    request.user.save()\n"
    "    send.delay(str(order.pk))",
    "a form": "form = Form(request.POST)\n    request.user.save()\n"
    "    kind = form.cleaned_data['kind']\n    send.delay(kind, request.org.pk)",
    "another new row": "Order.objects.create(user=request.user)\n    send.delay(pk)",
}
WRITTEN = {
    "the user": "request.user.save()\n    send.delay(request.user.pk)",
    "the address": "Order.objects.filter(pk=pk).update(paid=True)\n    send.delay(pk)",
    "a row": "order = get_object_or_404(Order, pk=pk)\n    order.save()\n"
    "    send.delay(order.pk)",
    "a row that it finds": "order = get_object_or_404(Order, pk=pk)\n    order.paid = True\n"
    "    order.save()\n    send.delay(pk)",
    "a row through a function": "order = get_object_or_404(Order, pk=pk)\n    pay(order)\n"
    "    send.delay(order.pk)",
    "a new row": "order = Order.objects.create()\n    send.delay(order.pk)",
    "a new row of a function": "order = make(1)\n    send.delay(order.pk)",
    "new rows": "orders = Order.objects.bulk_create([])\n    send.delay([o.pk for o in orders])",
    "in several lines": "ids = [\n        o.pk for o in [make(1)]\n    ]\n    send.delay(ids)",
    "a form": "form = Form(request.POST, instance=order)\n    form.save()\n"
    "    send.delay(order.pk)",
    "a form that is told": "form = Form(request.POST)\n    form.save()\n"
    "    send.delay(form.instance.pk)",
    "all": "Order.objects.update(paid=True)\n    send.delay(pk)",
    "SQL": "connection.cursor().execute('UPDATE x SET y = 1')\n    send.delay(pk)",
    "something by the request": "callback(request)\n    send.delay(request.org.pk)",
    "something": "callback()\n    send.delay(pk)",
    "nothing that is told": "request.user.save()\n    send.delay()",
}
VIEW = """
class Buy(View):
    def {method}(self, {parameters}):
        {code}
        send.delay({told})
"""


def in_a_function(folder, code):
    body = f"{HEAD}\ndef buy(request, pk, order, callback):\n    {code}\n"
    return [rule for rule, _ in only(folder, body, **ON)]


@pytest.mark.parametrize("name", READ)
def test_what_the_request_brings_and_reads_is_a_matter_of_policy(name, tmp_path):
    assert in_a_function(tmp_path, READ[name]) == ["AC301"]


@pytest.mark.parametrize("name", WRITTEN)
def test_what_the_request_writes_is_a_warning(name, tmp_path):
    assert in_a_function(tmp_path, WRITTEN[name]) == ["AC206"]


@pytest.mark.parametrize(
    ("method", "parameters", "told", "rule"),
    [
        ("post", "request, pk", "pk", "AC301"),
        ("post", "request", "self.kwargs['pk']", "AC301"),
        ("post", "request", "self.request.org.pk", "AC301"),
        ("post", "request", "self.request.user.pk", "AC206"),
        ("post", "request", "self.object.pk", "AC206"),  # another method may have written it
        ("form_valid", "request, form", "form.instance.pk", "AC206"),
    ],
)
def test_a_method_knows_what_comes_with_the_request(method, parameters, told, rule, tmp_path):
    code = "request.user.save()"
    body = VIEW.format(method=method, parameters=parameters, code=code, told=told)

    assert [rule for rule, _ in only(tmp_path, HEAD + body, **ON)] == [rule]


def test_what_a_function_is_given_may_have_been_written_by_its_caller(tmp_path):
    code = f"""{HEAD}
def notify(order):
    send.delay(order.pk)
def buy(request):
    order = make(request.user)
    notify(order)
"""

    assert [rule for rule, _ in only(tmp_path, code, **ON)] == ["AC206"]


def test_a_local_function_sees_what_is_written_around_it(tmp_path):
    code = f"""{HEAD}
def buy(request):
    order = make(request.user)
    def notify():
        send.delay(order.pk)
    notify()
"""

    assert [rule for rule, _ in only(tmp_path, code, **ON)] == ["AC206"]
