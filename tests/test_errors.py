"""Each error's sentence is read by a person, and its class and fields by our own code."""

import re

import pytest

from closedloop import errors
from closedloop.errors import (
    BusyError,
    CallerError,
    ClosedloopError,
    ConfigError,
    DatabaseAwayError,
    DatabaseConflictError,
    MissingIdError,
    TooLargeError,
    TransientError,
    UnknownKeyError,
)


def classes() -> list[type[ClosedloopError]]:
    """Return every class of errors.py."""
    found = [value for value in vars(errors).values() if isinstance(value, type)]
    return [value for value in found if issubclass(value, ClosedloopError)]


def test_caller_reads_the_key_the_problem_and_what_was_sent() -> None:
    """The sender looks for the field in their own request, so it is named and shown as they sent it."""
    error = CallerError("goal_value", "is not a finite number", shown="five")

    assert str(error) == "goal_value is not a finite number: 'five'"
    assert (error.key, error.problem, error.shown) == ("goal_value", "is not a finite number", "five")
    assert error.status == 400
    assert error.index is None


def test_nothing_shown_ends_the_sentence_at_the_problem() -> None:
    """A colon with nothing behind it reads like a lost half."""
    assert str(CallerError("phone", "is not a phone number")) == "phone is not a phone number"


def test_what_is_shown_is_cut_to_80_characters() -> None:
    """A body of 64 KiB in one field must not fill the log."""
    error = CallerError("goal_name", "is too long", shown="x" * 1000)

    assert error.shown == "x" * 80
    assert len(str(error)) < 120


def test_missing_id_says_the_sentence_of_the_contract() -> None:
    """CRMs of users compare this text, to the letter."""
    error = MissingIdError()

    assert str(error) == "Missing session_id or ym_uid"
    assert (error.key, error.status) == ("session_id", 400)


@pytest.mark.parametrize(
    ("kind", "status"), [(TooLargeError, 413), (UnknownKeyError, 401), (CallerError, 400)]
)
def test_caller_errors_carry_their_status(kind: type[CallerError], status: int) -> None:
    """The edge answers by class and field, never by the words of a sentence."""
    assert kind("body", "is wrong").status == status


@pytest.mark.parametrize("kind", [DatabaseAwayError, DatabaseConflictError, BusyError])
def test_transient_errors_say_when_to_come_again(kind: type[TransientError]) -> None:
    """A sender without a pause in seconds hammers a database that is just starting."""
    assert kind("away").retry_after == 5
    assert kind("away", retry_after=60).retry_after == 60
    assert str(kind("away", retry_after=60)) == "away"


def test_config_error_has_one_line_for_each_mistake() -> None:
    """The command line prints it line by line, and a person mends it from the top."""
    error = ConfigError(["a is wrong", "b is wrong"])

    assert str(error).splitlines() == error.mistakes == ["a is wrong", "b is wrong"]


def test_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    """Whoever adds an error looks there for its family; a drawing that drifted misleads."""
    assert errors.__doc__ is not None
    drawn = re.findall(r"^([│ ]*)(?:[├└]── )?(\w+Error)\b", errors.__doc__, re.MULTILINE)

    assert [name for _, name in drawn] == [kind.__name__ for kind in in_order(ClosedloopError)]
    assert {name for _, name in drawn} == {kind.__name__ for kind in classes()}


def in_order(kind: type[ClosedloopError]) -> list[type[ClosedloopError]]:
    """Return a class of errors.py and all below it, as a tree is drawn; defects of others are left out."""
    below = [one for one in kind.__subclasses__() if one.__module__ == errors.__name__]
    return [kind, *(one for child in below for one in in_order(child))]


@pytest.mark.parametrize("kind", classes())
def test_every_error_ends_in_error_and_says_what_it_is(kind: type[ClosedloopError]) -> None:
    """A class is found by its ending, and explained where it stands."""
    assert kind.__name__.endswith("Error")
    assert kind.__doc__
