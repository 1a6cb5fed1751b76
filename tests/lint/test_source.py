"""Odd code is read as far as possible, and never ends the linter."""

import ast
import os

import pytest

from aftercommit.lint.reading import read
from aftercommit.lint.source import decode, parse, python_files
from tests.lint.projects import only, report, write

RACE = b"""
from django.db import transaction
def f(order):
    with transaction.atomic():
        order.save()
        send.delay(order.pk)
"""


def rules(tmp_path, content: bytes) -> list[str]:
    file = tmp_path / "project" / "shop" / "code.py"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    return [one.rule for one in report(tmp_path, {}).findings]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("latin-1, declared", "# -*- coding: latin-1 -*-\n# Größe\n".encode("latin-1") + RACE),
        ("latin-1, not declared", "# Größe\n".encode("latin-1") + RACE),
        ("an encoding that nobody knows", b"# -*- coding: klingon -*-\n" + RACE),
        ("a byte order mark", b"\xef\xbb\xbf" + RACE),
        ("ends of lines of Windows", RACE.replace(b"\n", b"\r\n")),
        ("a zero byte", b"x = '\0'\n" + RACE),
        ("print of Python 2", b"def g():\n    print 'hello'\n    print\n" + RACE),
        (
            "except of Python 2",
            b"try:\n    pass\nexcept ValueError, e:\n    raise X, 'y'\n" + RACE,
        ),
        (
            "numbers and strings of Python 2",
            b"x = 0777L\ny = ur'z'\nif x <> y: print `x`\n" + RACE,
        ),
        ("a notebook's export", b"%matplotlib inline\n!pip install x\n" + RACE),
        ("a class that does not parse", b"class X(:\n    pass\n\n" + RACE),
        ("a template", b"class {{ name }}:\n    pass\n" + RACE),
        ("a merge that was not ended", b"<<<<<<< HEAD\nx = 1\n=======\n" + RACE),
        ("a form feed", b"\x0c\n" + RACE),
    ],
)
def test_the_race_is_found_beside_odd_code(name, content, tmp_path):
    assert rules(tmp_path, content) == ["AC101"]


def test_lines_keep_their_numbers_in_a_file_that_is_read_in_pieces(tmp_path):
    found = only(
        tmp_path,
        "class X(:\n    pass\n\n@transaction.atomic\n"
        "def f(order):\n    order.save(); send.delay(order.pk)\n",
    )

    assert found == [("AC101", 9)]


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe\x00", b"(" * 10_000, b"x = " + b"-" * 20_000 + b"1", b"def f(:\n" * 500],
)
def test_what_cannot_be_read_finds_nothing_and_fails_nothing(content, tmp_path):
    assert rules(tmp_path, content) == []


def test_deep_expressions_do_not_end_the_walk(tmp_path):
    deep = "x = " + " + ".join(["f(1)"] * 3000)
    attributes = "y = a" + ".b()" * 150

    assert rules(tmp_path, f"{deep}\n{attributes}\n".encode() + RACE) == ["AC101"]


def test_files_that_were_read_in_pieces_are_named(tmp_path):
    assert report(tmp_path, {"a.py": "class X(:\n  pass\n", "b.py": "x = 1\n"}).unparsed == (
        str(tmp_path / "project" / "a.py"),
    )


def test_folders_of_others_and_excluded_ones_are_not_read(tmp_path):
    names = [
        "a.py",
        ".venv/b.py",
        "node_modules/c.py",
        "legacy/d.py",
        "e.txt",
        "f/migrations/g.py",
    ]
    write(tmp_path, dict.fromkeys(names, ""))

    found = python_files([tmp_path], exclude=["legacy", "*/migrations/*"])

    assert [one.relative_to(tmp_path).as_posix() for one in found] == ["a.py"]


def test_a_file_that_is_named_is_always_read(tmp_path):
    write(tmp_path, {"script": ""})

    assert list(python_files([tmp_path / "script"])) == [tmp_path / "script"]


def test_a_link_to_nothing_is_left_out(tmp_path, capsys):
    os.symlink(tmp_path / "nothing", tmp_path / "a.py")

    assert read([tmp_path / "a.py"]) == []
    assert "No such file" in capsys.readouterr().err


def test_a_pipe_with_the_name_of_a_module_is_left_out(tmp_path):
    os.mkfifo(tmp_path / "a.py")

    assert read([tmp_path / "a.py"]) == []


def test_text_is_decoded_to_one_form():
    assert decode(b"\xef\xbb\xbfa\r\nb\rc") == "a\nb\nc"
    assert isinstance(parse("x = 1")[0], ast.Module)


def test_a_file_of_a_hundred_thousand_lines_is_read_to_its_end(tmp_path):
    filler = "def g{0}(order):\n    with transaction.atomic():\n        h{0}(order)\n" * 2
    many = "".join(filler.format(number) for number in range(17_000))

    assert rules(tmp_path, b"from django.db import transaction\n" + many.encode() + RACE) == [
        "AC101"
    ]
