"""The command: options, formats, exit codes, baseline, and that it runs without Django."""

import json
import os
import subprocess
import sys

import pytest

from aftercommit import console
from aftercommit.lint.cli import main
from aftercommit.race_rules import RULES
from tests.docs.pages import ROOT
from tests.lint.projects import write

CODE = """
from celery import shared_task
from django.db import transaction

@shared_task
def send(pk): ...

def notify(order):
    send.delay(order.pk)

@transaction.atomic
def place(order):
    order.save()
    notify(order)

def remind(pk):
    send.delay(pk)
"""
FIELDS = {"rule", "severity", "path", "line", "end_line", "message", "chain"}


@pytest.fixture
def project(tmp_path, monkeypatch):
    write(tmp_path, {"shop/code.py": CODE})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def as_json(capsys, *arguments):
    status = main(["--format", "json", "--jobs", "1", *arguments])
    return status, json.loads(capsys.readouterr().out)


def test_json_has_the_fields_that_programs_rely_on(project, capsys):
    status, (found,) = as_json(capsys, "shop")

    assert status == 1
    assert set(found) >= FIELDS
    assert (found["rule"], found["severity"]) == ("AC102", "error")
    assert (found["path"], found["line"], found["end_line"]) == ("shop/code.py", 9, 9)
    assert [step["line"] for step in found["chain"]] == [12, 14]


def test_the_text_names_the_place_the_way_and_the_cure(project, capsys):
    assert main(["shop", "--jobs", "1"]) == 1

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("shop/code.py:9:5: AC102 error: send.delay() is sent")
    assert lines[1] == "    shop/code.py:12: the transaction is opened here"
    assert lines[2] == "    shop/code.py:14: notify() is called"
    assert lines[3] == f"    Fix: {RULES['AC102'].fix}"
    assert lines[-1] == "1 error in 1 files, 18 lines"


def test_sarif_has_a_result_with_its_way_and_its_rule(project, capsys):
    assert main(["shop", "--format", "sarif", "--jobs", "1"]) == 1

    (run,) = json.loads(capsys.readouterr().out)["runs"]
    (result,) = run["results"]
    assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == "AC102"
    assert result["level"] == "error"
    place = result["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "shop/code.py"
    assert place["region"] == {"startLine": 9, "endLine": 9}
    assert len(result["codeFlows"][0]["threadFlows"][0]["locations"]) == 2


def test_github_gets_a_command_whose_text_is_escaped(project, capsys):
    (project / "shop" / "a,b.py").write_text(CODE)

    assert main(["shop", "--format", "github", "--jobs", "1"]) == 1

    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("::error file=shop/a%2Cb.py,line=9,endLine=9,title=AC102 Dispatch")
    assert second.startswith("::error file=shop/code.py,line=9")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--severity", "policy"], ["AC102", "AC301"]),
        (["--severity", "error"], ["AC102"]),
        (["--select", "AC3"], ["AC301"]),
        (["--select", "AC102,AC301"], ["AC102", "AC301"]),
        (["--ignore", "AC1"], []),
        (["--severity", "policy", "--ignore", "ac102"], ["AC301"]),
    ],
)
def test_rules_and_severities_are_chosen(options, expected, project, capsys):
    status, found = as_json(capsys, "shop", *options)

    assert [one["rule"] for one in found] == expected
    assert status == (1 if expected else 0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["nowhere"], "there is no nowhere"),
        (["--select", "AC999"], "there is no rule 'AC999'"),
        (["--severity", "fatal"], "severity is one of error, warning, policy, not 'fatal'"),
        (["--settings", "config.nothing"], "--settings config.nothing: no such module"),
        (["--baseline", "none.json"], "There is no baseline none.json"),
    ],
)
def test_wrong_use_is_said_and_ends_with_2(options, words, project, capsys):
    assert main([*options, "--jobs", "1"]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("sevrity = 'error'", "has no 'sevrity'. Did you mean 'severity'?"),
        ("ignore = 'AC210'", "ignore must be a list of strings, not 'AC210'."),
        ("select = ['AC1O1']", "there is no rule 'AC1O1'. Did you mean AC1"),
        ("severity = [", "is not TOML"),
    ],
)
def test_a_wrong_configuration_is_said_with_its_file(table, words, project, capsys):
    (project / "pyproject.toml").write_text(f"[tool.aftercommit.lint]\n{table}\n")

    assert main(["shop"]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "pyproject.toml" in error


def test_the_configuration_of_the_project_holds_and_options_win(project, capsys):
    (project / "pyproject.toml").write_text('[tool.aftercommit.lint]\nseverity = "policy"\n')

    assert [one["rule"] for one in as_json(capsys, "shop")[1]] == ["AC102", "AC301"]
    assert len(as_json(capsys, "shop", "--severity", "error")[1]) == 1


def test_a_baseline_holds_back_old_findings_wherever_their_lines_move(project, capsys):
    file = project / "shop" / "code.py"
    assert main(["shop", "--write-baseline", "known.json", "--jobs", "1"]) == 0
    capsys.readouterr()

    file.write_text("# one line more\n" + file.read_text())
    assert as_json(capsys, "shop", "--baseline", "known.json") == (0, [])

    file.write_text(
        file.read_text() + "\n@transaction.atomic\ndef again(order):\n    notify(order)\n"
    )
    file.write_text(file.read_text().replace("send.delay(order.pk)", "send.delay(order.id)"))
    assert as_json(capsys, "shop", "--baseline", "known.json")[0] == 1


def test_equal_lines_count_as_often_as_the_baseline_has_them(project, capsys):
    file = project / "shop" / "code.py"
    assert main(["shop", "--write-baseline", "known.json", "--jobs", "1"]) == 0
    file.write_text(
        file.read_text().replace(
            "    send.delay(order.pk)\n", "    send.delay(order.pk)\n    send.delay(order.pk)\n"
        )
    )
    capsys.readouterr()

    assert len(as_json(capsys, "shop", "--baseline", "known.json")[1]) == 1


@pytest.mark.parametrize(
    ("comment", "silent"),
    [
        ("# noqa: AC102 nothing is read", True),
        ("# noqa: F401, AC102", True),
        ("# noqa", True),
        ("# noqa: AC101", False),
        ("# AC102", False),
    ],
)
def test_a_comment_silences_its_line_for_the_rules_that_it_names(
    comment, silent, project, capsys
):
    file = project / "shop" / "code.py"
    file.write_text(file.read_text().replace("(order.pk)", f"(order.pk)  {comment}"))

    assert as_json(capsys, "shop")[0] == (0 if silent else 1)


def test_several_processes_find_the_same(project, capsys):
    write(project, {f"shop/more_{number}.py": CODE for number in range(50)})

    one, many = as_json(capsys, "shop"), as_json(capsys, "shop", "--jobs", "2")

    assert len(one[1]) == 51
    assert one == many


def test_a_rule_is_explained(capsys):
    assert main(["--explain", "AC101"]) == 0
    assert RULES["AC101"].fix in capsys.readouterr().out


def test_the_console_script_lints_and_sends_all_else_to_manage_py(project, capsys):
    assert console.main(["lint", "shop", "--jobs", "1"]) == 1
    assert console.main(["worker"]) == 2
    assert "python manage.py aftercommit worker" in capsys.readouterr().err


@pytest.mark.parametrize("options", [["shop", "--format", "github"], ["--explain", "AC1"]])
def test_a_reader_that_has_enough_is_no_error(options, project):
    """``aftercommit lint . | head -1`` closes the pipe while the linter still writes."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        run = subprocess.run(
            [sys.executable, "-m", "aftercommit.lint", *options, "--jobs", "1"],
            cwd=project,
            env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    finally:
        os.close(writing)

    assert (run.returncode, run.stderr) == (0 if "--explain" in options else 1, "")


def test_it_runs_where_django_is_not_installed(project):
    """A finder that refuses Django stands for an environment without it."""
    program = (
        "import sys\n"
        "class No:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in {'django', 'celery', 'libcst'}:\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, No())\n"
        "sys.argv = ['aftercommit', 'lint', 'shop']\n"
        "from aftercommit.console import main\n"
        "sys.exit(main())\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "DJANGO_SETTINGS_MODULE"}
    environment["PYTHONPATH"] = str(ROOT / "src")

    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (run.returncode, run.stderr) == (1, "")
    assert "AC102" in run.stdout
