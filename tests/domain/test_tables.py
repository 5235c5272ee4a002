"""What a file says has whatever type its owner gave it, and a wrong name has a right one near by."""

import pytest

from closedloop.domain.tables import as_list, as_table, nearest, not_a_setting, tables_in


def test_value_of_another_type_is_none() -> None:
    """A text where a table is wanted is a mistake to be told, not an exception."""
    assert (as_table({"a": 1}), as_table([]), as_list([1]), as_list("a")) == ({"a": 1}, None, [1], None)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({"on": "won"}, [("goals", {"on": "won"})]),
        ([{"on": "won"}, 5, {"on": "lost"}], [("goals[0]", {"on": "won"}), ("goals[2]", {"on": "lost"})]),
        ("won", []),
    ],
)
def test_tables_have_the_places_of_the_file(value: object, found: object) -> None:
    """The owner counts them in the file, the wrong ones too."""
    assert tables_in("goals", value) == found


def test_near_name_is_offered() -> None:
    """Most mistakes are one letter."""
    assert nearest("wom", ["won", "lost"]) == "; did you mean 'won'?"
    assert nearest("xyz", ["won", "lost"]) == ""


def test_unknown_name_is_told_with_what_is_known() -> None:
    """When nothing is near, the list is short enough to be read."""
    assert not_a_setting("tokn", ["token", "url"]) == "is not a setting; did you mean token?"
    assert not_a_setting("xyz", ["token", "url"]) == "is not a setting; known are: token, url"
