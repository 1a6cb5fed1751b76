"""--fix rewrites what is shown to be wrong, and nothing else."""

import pytest

from aftercommit.lint.analysis import lint
from aftercommit.lint.cli import main
from aftercommit.lint.fix import repair
from tests.lint.projects import ALL, write

HEAD = """\
# The shop.
from django.db import transaction
from shop.tasks import send  # the task


"""
TASK = "from celery import shared_task\n@shared_task\ndef send(*args, **kwargs): ...\n"
OPENS = (
    "from django.db import transaction\nfrom shop.code import notify\n"
    "@transaction.atomic\ndef f(order):\n    order.save()\n    notify(order)\n"
)
CASES = {
    "with": (
        """\
def f(order):
    with transaction.atomic():
        order.save()
        send.delay(order.pk)  # at once
""",
        """\
def f(order):
    with transaction.atomic():
        order.save()
        transaction.on_commit(partial(send.delay, order.pk))  # at once
""",
    ),
    "several lines and their comments": (
        """\
@transaction.atomic
def f(order):
    order.save()
    send.apply_async(
        [order.pk],  # the order
        countdown=90,
    )
""",
        """\
@transaction.atomic
def f(order):
    order.save()
    transaction.on_commit(partial(
        send.apply_async,
        [order.pk],  # the order
        countdown=90,
    ))
""",
    ),
    "another database": (
        """\
def f(order):
    with transaction.atomic(using="archive"):
        order.save(using="archive")
        send.delay(order.pk)
""",
        """\
def f(order):
    with transaction.atomic(using="archive"):
        order.save(using="archive")
        transaction.on_commit(partial(send.delay, order.pk), using="archive")
""",
    ),
    "a name for the database": (
        """\
def f(order, alias):
    with transaction.atomic(alias):
        order.save(using=alias)
        send.delay(order.pk)
""",
        """\
def f(order, alias):
    with transaction.atomic(alias):
        order.save(using=alias)
        transaction.on_commit(partial(send.delay, order.pk), using=alias)
""",
    ),
    "the value of now, in a loop": (
        """\
@transaction.atomic
def f(orders):
    for order in orders:
        order.save()
        send.delay(order.pk)
""",
        """\
@transaction.atomic
def f(orders):
    for order in orders:
        order.save()
        transaction.on_commit(partial(send.delay, order.pk))
""",
    ),
    "a function that a transaction calls": (
        """\
def notify(order):
    send.delay(order.pk)

@transaction.atomic
def f(order):
    order.save()
    notify(order)
""",
        """\
def notify(order):
    transaction.on_commit(partial(send.delay, order.pk))

@transaction.atomic
def f(order):
    order.save()
    notify(order)
""",
    ),
    "a lambda that captures the loop": (
        """\
@transaction.atomic
def f(orders):
    for order in orders:
        order.save()
        transaction.on_commit(lambda: send.delay(order.pk))
""",
        """\
@transaction.atomic
def f(orders):
    for order in orders:
        order.save()
        transaction.on_commit(partial(send.delay, order.pk))
""",
    ),
    "on_commit on the wrong database": (
        """\
def f(order):
    with transaction.atomic(using="archive"):
        order.save(using="archive")
        transaction.on_commit(lambda: send.delay(order.pk))
""",
        """\
def f(order):
    with transaction.atomic(using="archive"):
        order.save(using="archive")
        transaction.on_commit(lambda: send.delay(order.pk), using="archive")
""",
    ),
}
LEFT = {
    "the result is used": """\
def f(order):
    with transaction.atomic():
        order.save()
        result = send.delay(order.pk)
    return result
""",
    "partial means something else": """\
def f(order, partial):
    with transaction.atomic():
        order.save()
        send.delay(order.pk)
""",
    "two databases": """\
def f(order):
    with transaction.atomic(using="a"), transaction.atomic(using="b"):
        order.save()
        send.delay(order.pk)
""",
    "only plausible": """\
def f(order):
    with transaction.atomic():
        order.save()
        send.delay("nightly")
""",
    "a policy": "def f(pk):\n    send.delay(pk)\n",
}


def fixed(folder, code):
    """Write a file, fix it once and twice; return it with what a third look finds."""
    write(folder, {"shop/tasks.py": TASK, "shop/code.py": code})
    file = folder / "shop" / "code.py"
    repair(lint([folder / "shop"], ALL).findings)
    once = file.read_text()
    changed = repair(lint([folder / "shop"], ALL).findings)

    assert (file.read_text(), changed) == (once, 0)
    return once


@pytest.mark.parametrize("name", CASES)
def test_what_is_shown_is_rewritten_and_the_second_time_nothing_changes(name, tmp_path):
    before, after = CASES[name]

    text = fixed(tmp_path, HEAD + before)

    assert text.endswith(after)
    assert lint([tmp_path / "shop"], ALL).findings == ()
    compile(text, "code.py", "exec")
    wants_partial = "partial(" in after
    expected = HEAD.replace("from django", "from functools import partial\n\nfrom django", 1)
    assert text.removesuffix(after) == (expected if wants_partial else HEAD)


@pytest.mark.parametrize("name", LEFT)
def test_what_is_not_shown_or_not_safe_is_left_alone(name, tmp_path):
    assert fixed(tmp_path, HEAD + LEFT[name]) == HEAD + LEFT[name]


def test_names_are_used_as_the_file_has_them(tmp_path):
    head = (
        "import functools\nfrom django.db import transaction as tx\nfrom shop.tasks import send\n"
    )
    body = "def f(order):\n    with tx.atomic():\n        order.save()\n        {}\n"

    text = fixed(tmp_path, head + body.format("send.delay(order.pk)"))

    line = "tx.on_commit(functools.partial(send.delay, order.pk))"
    assert text == head + body.format(line)


HEADS = {
    "relative imports": (
        "from .tasks import send\n",
        "from functools import partial\n\nfrom django.db import transaction\n\n"
        "from .tasks import send\n",
    ),
    "all kinds": (
        "import datetime\nfrom typing import Any\n\nfrom celery import Celery\n"
        "from django.urls import path\n\nfrom shop.tasks import send\n\nfrom . import other\n",
        "import datetime\nfrom functools import partial\nfrom typing import Any\n\n"
        "from celery import Celery\nfrom django.db import transaction\n"
        "from django.urls import path\n\nfrom shop.tasks import send\n\nfrom . import other\n",
    ),
    "names of the same modules": (
        "from functools import wraps\n\nfrom django.db import IntegrityError, models\n\n"
        "from .tasks import send\n",
        "from functools import partial, wraps\n\n"
        "from django.db import IntegrityError, models, transaction\n\nfrom .tasks import send\n",
    ),
    "a list of names over several lines": (
        "from functools import (\n    cache,\n    wraps,\n)\n\nfrom django.db import (\n"
        "    IntegrityError,\n    models,\n)\n\nfrom .tasks import send\n",
        "from functools import (\n    cache,\n    partial,\n    wraps,\n)\n\n"
        "from django.db import (\n    IntegrityError,\n    models,\n    transaction,\n)\n\n"
        "from .tasks import send\n",
    ),
    "a docstring and what comes from the future": (
        '"""The shop."""\n\nfrom __future__ import annotations\n\nfrom .tasks import send\n',
        '"""The shop."""\n\nfrom __future__ import annotations\n\n'
        "from functools import partial\n\nfrom django.db import transaction\n\n"
        "from .tasks import send\n",
    ),
    "comments": (
        "# The shop.\n\n# Django.\nfrom django.urls import path\n\n# Ours.\n"
        "from .tasks import send\n",
        "# The shop.\n\n# Django.\nfrom functools import partial\n\n"
        "from django.db import transaction\nfrom django.urls import path\n\n# Ours.\n"
        "from .tasks import send\n",
    ),
    "a list of names with comments": (
        "from django.db import (\n    models,  # rows\n    router,\n)\n",
        "from functools import partial\n\nfrom django.db import (\n    models,  # rows\n"
        "    router,\n)\nfrom django.db import transaction\n",
    ),
    "no imports": (
        '"""The shop."""\n',
        '"""The shop."""\n\nfrom functools import partial\n\nfrom django.db import transaction\n',
    ),
    "an order of its own": (
        "from .tasks import send\nfrom django.urls import path\nimport os\n",
        "from .tasks import send\nfrom django.db import transaction\n"
        "from django.urls import path\nimport os\nfrom functools import partial\n",
    ),
}


@pytest.mark.parametrize("name", HEADS)
def test_an_import_that_is_missing_stands_where_sorted_imports_have_it(name, tmp_path):
    before, after = HEADS[name]
    code = "\n\ndef notify(order):\n    {}\n"
    write(tmp_path, {"shop/__init__.py": "", "shop/other.py": OPENS})

    text = fixed(tmp_path, before + code.format("send.delay(order.pk)"))

    line = "transaction.on_commit(partial(send.delay, order.pk))"
    assert text == after + code.format(line)


def test_an_import_that_is_missing_is_added(tmp_path):
    code = "from django.db.transaction import atomic\nfrom shop.tasks import send\n\n"
    code += "@atomic\ndef f(order):\n    order.save()\n    send.delay(order.pk)\n"

    text = fixed(tmp_path, code)

    assert "from django.db import transaction\n" in text
    assert "from functools import partial\n" in text


def test_other_letters_and_ends_of_lines_stay_as_they_are(tmp_path):
    code = HEAD + 'def f(order):\n    """Größe."""\n' + CASES["with"][0].split("\n", 1)[1]
    code = "# coding: latin-1\n" + code.replace("        send", '        "ä"; send')
    write(tmp_path, {"shop/tasks.py": TASK})
    file = tmp_path / "shop" / "code.py"
    file.write_bytes(code.replace("\n", "\r\n").encode("latin-1"))

    assert repair(lint([tmp_path / "shop"], ALL).findings) == 1

    after = file.read_bytes()
    assert "Größe".encode("latin-1") in after
    assert b"transaction.on_commit(partial(send.delay, order.pk))" in after
    assert after.count(b"\n") == after.count(b"\r\n")


def test_the_command_fixes_and_says_what_is_left(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = HEAD + CASES["with"][0] + LEFT["the result is used"].replace("f(", "g(")
    write(tmp_path, {"shop/tasks.py": TASK, "shop/code.py": code})

    assert main(["shop", "--fix", "--jobs", "1"]) == 1

    shown = capsys.readouterr()
    assert shown.err == "1 places rewritten\n"
    assert shown.out.count("AC101") == 1
