"""A transaction that writes nothing has nothing to wait for."""

import pytest

from aftercommit.lint.configuration import Configuration
from aftercommit.race_rules import Severity
from tests.lint.projects import findings, only

ON = {"config/settings.py": 'DATABASES = {"default": {"ENGINE": "x", "ATOMIC_REQUESTS": True}}\n'}
OFF = {"config/settings.py": 'DATABASES = {"default": {"ENGINE": "x"}}\n'}
IMPORTS = """
from django.contrib.auth.models import Group
from django.core.cache import cache
from django.core.files.storage import default_storage
from django.core.management import call_command
from django_filters import FilterSet
"""
WRITES = {
    "save": "order.save()",
    "manager": "Order.objects.create()",
    "manager of another package": "Group.objects.create()",
    "rows": "Order.objects.filter(pk=1).update(paid=True)",
    "rows in a variable": "orders.update(paid=True)",
    "relation": "order.lines.add(1)",
    "SQL": "connection.cursor().execute('UPDATE x SET y = 1')",
    "function of the project": "pay(order)",
    "method by its name": "order.mark_as_paid()",
    "function that is not known": "callback(order)",
    "command": "call_command('loaddata', 'orders')",
}
READS = {
    "nothing": "pass",
    "get": "order.refresh_from_db()",
    "lock": "Order.objects.select_for_update().get(pk=1)",
    "cache": "cache.set('orders', 1)",
    "cache in a variable": "self.cache.set('orders', 1)",
    "dictionary": "found = {}; found.update(orders)",
    "dictionary in a list": "orders[0].update({'paid': True})",
    "widget": "order.fields['paid'].widget.attrs.update(checked=True)",
    "file": "default_storage.save('orders.csv', order)",
    "class below one of another package": "Filter(order)",
    "set": "seen = set(); seen.add(1)",
    "function of the project": "look(order)",
    "question by its name": "order.is_valid()",
    "built-in function": "print(len(orders))",
}
PARTS = """
def pay(order):
    order.save()
def look(order):
    return order.pk
class Invoice:
    def mark_as_paid(self):
        Order.objects.filter(pk=1).update(paid=True)
class Form:
    def is_valid(self):
        Order.objects.create()
class Log:
    def __init__(self):
        Order.objects.create()
class Filter(FilterSet):
    def __init__(self, order):
        super().__init__(order)
class OtherForm:
    def is_valid(self):
        return True
class Receipt:
    def mark_as_paid(self):
        self.paid = True
"""


@pytest.mark.parametrize("code", WRITES.values(), ids=WRITES)
def test_a_transaction_that_may_write_is_one(code, tmp_path):
    assert _in_a_block(tmp_path / "block", code) == ["AC101"]
    assert _in_a_view(tmp_path / "view", code) == ["AC206"]


@pytest.mark.parametrize("code", READS.values(), ids=READS)
def test_a_transaction_that_only_reads_is_a_matter_of_policy(code, tmp_path):
    assert _in_a_block(tmp_path / "block", code) == ["AC301"]
    assert _in_a_view(tmp_path / "view", code) == ["AC301"]


def test_a_function_called_in_a_transaction_is_judged_by_what_that_writes(tmp_path):
    code = """
        def notify(order):
            send.delay(order.pk)
        def f(order):
            with transaction.atomic():
                {}
                notify(order)
            order.save()
    """

    assert only(tmp_path / "a", code.format("order.save()"))[0][0] == "AC102"
    assert only(tmp_path / "b", code.format("order.refresh_from_db()"))[0][0] == "AC301"


def test_a_hook_of_a_view_is_judged_by_what_its_request_may_have_written(tmp_path):
    code = """
        from django.views.generic import CreateView
        class Buy(CreateView):
            def get_success_url(self):
                send.delay(self.object.pk)
            def get(self, request):
                send.delay(1)
            def post(self, request):
                {}
                self.tell()
            def tell(self):
                send.delay(2)
    """

    written = dict(map(reversed, only(tmp_path / "a", code.format("request.user.save()"), **ON)))
    read = dict(map(reversed, only(tmp_path / "b", code.format("request.user"), **ON)))

    assert written == {8: "AC206", 10: "AC301", 15: "AC206"}
    assert read == {8: "AC206", 10: "AC301", 15: "AC301"}


SIGNAL = {
    "shop/signals.py": "from django.dispatch import Signal\npaid = Signal()\n",
    "shop/receivers.py": "from shop.signals import paid\nfrom shop.tasks import send\n"
    "def on_paid(sender, order, **kwargs):\n    send.delay(order.pk)\npaid.connect(on_paid)\n",
    "shop/tasks.py": "from celery import shared_task\n@shared_task\ndef send(pk): ...\n",
}
INSIDE = "with transaction.atomic():\n        o.save()\n        "


@pytest.mark.parametrize(
    ("sent", "rule"),
    [
        (f"{INSIDE}paid.send(None, order=o)", "AC102"),
        (f"{INSIDE}o.paid.send(None, order=o)", "AC209"),
        ("paid.send(None, order=o)", "AC301"),
        ("o.paid.send(None, order=o)", "AC301"),
        ("pass", "AC203"),  # nothing shows who sends it
    ],
)
def test_the_sender_of_a_signal_says_whether_its_receiver_is_in_a_transaction(
    sent, rule, tmp_path
):
    start = "from django.db import transaction\nfrom shop.signals import paid\n"
    files = {**SIGNAL, "shop/pay.py": f"{start}def f(o):\n    {sent}\n"}

    found = findings(tmp_path, files, Configuration(severity=Severity.POLICY))

    assert [one.rule for one in found if one.path.endswith("receivers.py")] == [rule]


def test_a_signal_of_nobody_is_no_warning_where_requests_are_no_transactions(tmp_path):
    assert [one.rule for one in findings(tmp_path, {**SIGNAL, **OFF})] == ["AC301"]


def test_a_row_just_written_is_no_warning_where_requests_are_no_transactions(tmp_path):
    code = "\ndef f():\n    order = Order.objects.create()\n    send.delay(order.pk)\n"

    assert [rule for rule, _ in only(tmp_path / "a", code)] == ["AC210"]
    assert [rule for rule, _ in only(tmp_path / "b", code, **ON)] == ["AC210"]
    assert [rule for rule, _ in only(tmp_path / "c", code, **OFF)] == ["AC301"]


@pytest.mark.parametrize(
    ("code", "rule"),
    [
        ("order = Order.objects.create()", "AC210"),
        ("order = Order(); order.save()", "AC210"),
        ("order, _ = Order.objects.get_or_create()", "AC210"),
        ("order = form.save()", "AC210"),
        ("order.save()", "AC301"),
        ("order.delete()", "AC301"),
    ],
)
def test_a_row_that_was_there_before_is_found_by_the_task_in_any_case(code, rule, tmp_path):
    code = f"\ndef f(order, form):\n    {code}\n    send.delay(order.pk)\n"

    assert [rule for rule, _ in only(tmp_path, code)] == [rule]


def test_the_settings_of_a_demo_say_nothing_about_the_package_beside_it(tmp_path):
    code = "\ndef f():\n    order = Order.objects.create()\n    send.delay(order.pk)\n"
    demo = {"demo/site/settings.py": OFF["config/settings.py"]}

    assert [rule for rule, _ in only(tmp_path, code, **demo)] == ["AC210"]


@pytest.mark.parametrize(
    ("enqueue", "rule"),
    [
        ("django_rq.enqueue(work, 1)", "AC301"),
        ("django_rq.get_queue('x').enqueue(work, 1)", "AC301"),
        ("work(1)", "AC206"),
    ],
)
def test_what_a_queue_is_given_is_a_task_and_no_view(enqueue, rule, tmp_path):
    code = f"""
import django_rq
def work(request):
    Order.objects.create()
    send.delay(1)
def start():
    {enqueue}
"""
    assert only(tmp_path, code, **ON)[0][0] == rule


@pytest.mark.parametrize("rows", ["values_list('pk', flat=True)", "values()", "dates('at')"])
def test_values_of_rows_are_no_instances(rows, tmp_path):
    code = "\ndef f():\n    for one in Order.objects.{}:\n        send.delay(one)\n"

    assert "AC225" not in [rule for rule, _ in only(tmp_path / "a", code.format(rows))]
    assert "AC225" in [rule for rule, _ in only(tmp_path / "b", code.format("filter()"))]


def _in_a_block(folder, code):
    folder.mkdir()
    body = f"""
{IMPORTS}
from django.db import connection
{PARTS}
def f(order, orders, callback):
    with transaction.atomic():
        {code}
        send.delay(order.pk)
"""
    return [rule for rule, _ in only(folder, body)]


def _in_a_view(folder, code):
    folder.mkdir()
    body = f"""
{IMPORTS}
from django.db import connection
{PARTS}
def buy(request, order, orders, callback):
    {code}
    send.delay()
"""
    return [rule for rule, _ in only(folder, body, **ON)]


def test_what_is_sent_somewhere_is_a_task_whatever_its_decorator(tmp_path):
    code = """
        from company.queue import own_task
        @own_task
        def work(pk):
            order = Order.objects.create()
            send.delay(order.pk)
        def start():
            {}
    """

    assert only(tmp_path / "a", code.format("work.delay(1)"))[0][0] == "AC301"
    assert only(tmp_path / "b", code.format("work(1)"))[0][0] == "AC210"
