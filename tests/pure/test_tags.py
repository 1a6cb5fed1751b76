"""What a tag may be, and how tags stand in the column."""

import json

import pytest

from aftercommit.errors import ConfigurationError
from aftercommit.options.tags import LONGEST_TAG, MOST_TAGS, in_column, stored_tags, tags_from

ODD = [
    *(
        "a",
        "b",
        "A",
        "a b",
        'a"b',
        'a"x\\',
        "x\\",
        'b",',
        'a", "b',
        "a,",
        "a\\b",
        "a,b",
        "[a]",
        "Größe",
        "😀",
    ),
    *(",", '","', '", "', '"', "'", "%", "_", "\\", '\\"', "\\u002c", "%s", "{0}"),
]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("mail", r"write tags=\['mail'\]"),
        (b"mail", "expected a list"),
        ({"mail"}, "expected a list"),
        (3, "expected a list"),
        ([""], "1 to 100 printable"),
        ([3], "1 to 100 printable"),
        (["a\nb"], "printable"),
        ([" a"], "no space at its ends"),
        (["a "], "no space at its ends"),
        (["\ud800"], "printable"),
        (["x" * (LONGEST_TAG + 1)], "1 to 100"),
        ([["a"]], "printable"),
        ([str(number) for number in range(MOST_TAGS + 1)], "at most 20, got 21"),
    ],
    ids=repr,
)
def test_what_is_no_tag_is_refused_in_a_sentence(given, said):
    with pytest.raises(ConfigurationError, match=rf"^tags: .*{said}"):
        tags_from(given)


def test_each_counts_once_and_they_stay_in_order():
    assert tags_from(["b", "a", "b"]) == ("b", "a")
    assert tags_from(("x" * LONGEST_TAG,) * 2) == ("x" * LONGEST_TAG,)
    assert tags_from([]) == ()


def test_the_column_is_a_json_list_or_null():
    assert json.loads(stored_tags(ODD)) == ODD
    assert stored_tags([]) is None


@pytest.mark.parametrize("tag", ODD)
def test_the_text_of_a_tag_is_only_where_the_tag_is(tag):
    others = [one for one in ODD if one != tag]

    assert in_column(tag) in stored_tags(ODD)
    assert in_column(tag) not in stored_tags(others)
    for other in others:
        assert in_column(tag) not in stored_tags([other, other + "x", other])
