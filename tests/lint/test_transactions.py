"""What counts as a transaction, and what waits for its commit."""

import pytest

from tests.lint.projects import findings, only

IN_A_TRANSACTION = {
    "with": """
        def f(order):
            with transaction.atomic():
                order.save()
                send.delay(order.pk)
    """,
    "decorator": """
        @transaction.atomic
        def f(order):
            order.save()
            send.delay(order.pk)
    """,
    "decorator with using": """
        @transaction.atomic(using="other")
        def f(order):
            order.save()
            send.delay(order.pk)
    """,
    "alias": """
        from django.db.transaction import atomic as tx
        def f(order):
            with tx():
                order.save()
                send.delay(order.pk)
    """,
    "assigned": """
        begin = transaction.atomic
        def f(order):
            with begin():
                order.save()
                send.delay(order.pk)
    """,
    "wrapper": """
        from contextlib import contextmanager
        @contextmanager
        def unit_of_work():
            with transaction.atomic():
                yield
        def f(order):
            with unit_of_work():
                order.save()
                send.delay(order.pk)
    """,
    "wrapping decorator": """
        from functools import wraps
        def transactional(function):
            @wraps(function)
            def inner(*args):
                with transaction.atomic():
                    return function(*args)
            return inner
        @transactional
        def f(order):
            order.save()
            send.delay(order.pk)
    """,
    "factory of decorators": """
        def transactional(using):
            def decorate(function):
                def inner(*args):
                    with transaction.atomic(using=using):
                        return function(*args)
                return inner
            return decorate
        @transactional("default")
        def f(order):
            order.save()
            send.delay(order.pk)
    """,
    "class with __enter__": """
        class UnitOfWork:
            def __enter__(self):
                self.atomic = transaction.atomic()
                self.atomic.__enter__()
            def __exit__(self, *error):
                self.atomic.__exit__(*error)
        def f(order):
            with UnitOfWork():
                order.save()
                send.delay(order.pk)
    """,
    "subclass of Atomic": """
        class Durable(transaction.Atomic): ...
        def f(order):
            with Durable("default", True, True):
                order.save()
                send.delay(order.pk)
    """,
    "method_decorator": """
        from django.utils.decorators import method_decorator
        from django.views import View
        @method_decorator(transaction.atomic, name="dispatch")
        class V(View):
            def post(self, request, order):
                order.save()
                send.delay(order.pk)
    """,
    "several items": """
        def f(order):
            with open("x") as file, transaction.atomic():
                order.save()
                send.delay(order.pk)
    """,
    "ExitStack": """
        from contextlib import ExitStack
        def f(order):
            with ExitStack() as stack:
                stack.enter_context(transaction.atomic())
                order.save()
                send.delay(order.pk)
    """,
    "reversion": """
        import reversion
        def f(order):
            with reversion.create_revision():
                order.save()
                send.delay(order.pk)
    """,
    "in a lambda that is called there": """
        def f(orders):
            with transaction.atomic():
                orders.update(paid=True)
                list(map(lambda order: send.delay(order.pk), orders))
    """,
}
WAITS = {
    "partial": "transaction.on_commit(partial(send.delay, order.pk))",
    "lambda": "transaction.on_commit(lambda: send.delay(order.pk))",
    "own method": "send.delay_on_commit(order.pk)",
    "own method with options": "send.apply_async_on_commit([order.pk], countdown=5)",
    "bound method": "transaction.on_commit(send.s(order.pk).delay)",
    "local function": """
                def later():
                    send.delay(order.pk)
                transaction.on_commit(later)""",
    "variable": """
                later = lambda: send.delay(order.pk)
                transaction.on_commit(later)""",
    "variable with partial": """
                def go(pk):
                    send.delay(pk)
                later = partial(go, order.pk)
                transaction.on_commit(later)""",
    "keyword": "transaction.on_commit(func=lambda: send.delay(order.pk))",
    "decorator": """
                @transaction.on_commit
                def later():
                    send.delay(order.pk)""",
    "partial decorator": """
                @partial(transaction.on_commit, using="default")
                def later():
                    send.delay(order.pk)""",
    "wrapper of the project": "after_commit(send.delay, order.pk)",
    "lambda for a wrapper of the project": "after_commit(lambda: send.delay(order.pk))",
    "function that only callbacks call": "transaction.on_commit(lambda: notify(order))",
    "connection.on_commit": "connection.on_commit(lambda: send.delay(order.pk))",
}
AROUND = """
        from functools import partial
        from django.db import connection
        def after_commit(function, *args):
            transaction.on_commit(partial(function, *args))
        def notify(order):
            send.delay(order.pk)
        def f(order):
            with transaction.atomic():
                order.save()
                {}
"""


@pytest.mark.parametrize("name", IN_A_TRANSACTION)
def test_a_dispatch_in_a_transaction_is_an_error(name, tmp_path):
    found = only(tmp_path, IN_A_TRANSACTION[name])

    assert [rule for rule, _ in found] in (["AC101"], ["AC102"])


@pytest.mark.parametrize("name", WAITS)
def test_what_waits_for_the_commit_is_not_found(name, tmp_path):
    code = AROUND.format(WAITS[name])
    if name != "function that only callbacks call":
        code = code.replace("def notify(order):\n            send.delay(order.pk)\n        ", "")

    assert only(tmp_path, code) == []


def test_a_dispatch_before_and_after_the_block_is_not_in_it(tmp_path):
    code = """
        def f(order):
            send.delay(1)
            with transaction.atomic():
                order.touch()
            send.delay(2)
    """

    assert [rule for rule, _ in only(tmp_path, code)] == ["AC301", "AC301"]


def test_a_dispatch_on_the_error_path_is_meant_for_the_rollback(tmp_path):
    code = """
        def f(order):
            with transaction.atomic():
                try:
                    order.save()
                except ValueError:
                    send.delay(order.pk)
                    raise
    """

    assert [rule for rule, _ in only(tmp_path, code)] == ["AC301"]


def test_an_error_that_is_swallowed_ends_in_a_commit(tmp_path):
    code = """
        def f(order):
            with transaction.atomic():
                try:
                    order.save()
                except ValueError:
                    send.delay(order.pk)
    """

    assert [rule for rule, _ in only(tmp_path, code)] == ["AC101"]


@pytest.mark.parametrize("using", ['"replica"', "READ_ALIAS"])
def test_a_transaction_that_only_reads_a_replica_is_none(using, tmp_path):
    code = f"""
        READ_ALIAS = "readonly"
        def f(order):
            with transaction.atomic(using={using}):
                order.refresh_from_db()
                send.delay(order.pk)
    """

    assert [rule for rule, _ in only(tmp_path, code)] == ["AC301"]


def test_a_mirror_in_the_settings_is_a_replica(tmp_path):
    code = """
        def f(order):
            with transaction.atomic(using="near"):
                order.refresh_from_db()
                send.delay(order.pk)
    """
    settings = 'DATABASES = {"default": {}, "near": {"TEST": {"MIRROR": "default"}}}\n'

    found = only(tmp_path, code, **{"config/settings.py": settings})

    assert [rule for rule, _ in found] == ["AC301"]


@pytest.mark.parametrize(
    ("call", "severity"),
    [
        ("send.delay(order.pk)", "error"),
        ("send.delay(str(order.pk), kind='x')", "error"),
        ("send.delay(number)", "error"),
        ("send.delay(other.pk)", "warning"),
        ("send.delay('nightly')", "warning"),
        ("send.delay()", "warning"),
    ],
)
def test_arguments_that_name_nothing_written_lower_the_severity(call, severity, tmp_path):
    files = {
        "shop/code.py": f"""
            from django.db import transaction
            from celery import shared_task
            @shared_task
            def send(*args, **kwargs): ...
            def f(order, other):
                with transaction.atomic():
                    number = order.number
                    order.save()
                    {call}
        """
    }

    (found,) = findings(tmp_path, files)

    assert (found.rule, found.severity) == ("AC101", severity)


def test_a_thread_has_a_connection_of_its_own(tmp_path):
    code = """
        from threading import Thread
        def g(pk):
            send.delay(pk)
        def f(order):
            with transaction.atomic():
                order.save()
                Thread(target=lambda: g(order.pk)).start()
    """

    assert "AC102" not in [rule for rule, _ in only(tmp_path, code)]


def test_a_class_that_only_looks_like_a_transaction_is_none(tmp_path):
    code = """
        class Span:
            def __enter__(self):
                self.start()
            def start(self):
                self.__enter__()
        def f(order):
            with Span():
                order.save()
                send.delay(order.pk)
    """

    assert [rule for rule, _ in only(tmp_path, code)] == ["AC301"]
