"""The file with the results of the benchmarks keeps what was not measured again."""

from benchmarks.written import merged

TABLE = "jobs/s, more is better\n\n| | median |\n|---|---:|\n| {peer} | {rate} |"


def test_a_table_is_replaced_and_the_others_stay() -> None:
    old = merged(
        "",
        {
            "drain": TABLE.format(peer="ours", rate=1),
            "row": TABLE.format(peer="ours", rate=2),
        },
        {},
        said="Yesterday.",
    )
    new = merged(old, {"row": TABLE.format(peer="ours", rate=3)}, {}, said="Today.")
    assert new.index("## drain") < new.index("## row")
    assert "| ours | 1 |\n\nYesterday." in new
    assert "| ours | 3 |\n\nToday." in new
    assert "| ours | 2 |" not in new
    assert merged(new, {}, {}, said="Tomorrow.") == new


def test_what_is_said_before_the_first_table_stays() -> None:
    old = "# Results\n\nOn that machine.\n\n- ours 1\n\n## drain\n\nA table.\n"
    new = merged(old, {"row": "Another."}, {}, said="Today.")
    assert new.startswith("# Results\n\nOn that machine.\n\n- ours 1\n\n## drain\n\nA table.\n")
    assert new.endswith("## row\n\nAnother.\n\nToday.\n")


def test_why_something_was_not_measured_is_said_until_it_is() -> None:
    old = merged("", {}, {("theirs", "row"): "no such task: none"}, said="")
    assert "- theirs, row: no such task: none" in merged(old, {}, {}, said="")
    new = merged(old, {"row": TABLE.format(peer="theirs", rate=1)}, {}, said="Today.")
    assert "Not measured" not in new
