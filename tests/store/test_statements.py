"""The statements are written for the table that was seen last, and for none before one was seen."""

from datetime import timedelta

import msgspec
import pytest

from closedloop.errors import DatabaseAwayError
from closedloop.store.statements import Shape
from fix_ledger import OWN_TABLE

ADOPTED = msgspec.structs.replace(OWN_TABLE, data_type="json", has_site=False)
WINDOWS = {"default": timedelta(hours=1)}


def test_shape_that_was_never_seen_is_an_absent_database() -> None:
    """A server that starts before its database keeps webhooks in the spool instead of failing."""
    with pytest.raises(DatabaseAwayError):
        Shape(WINDOWS).current()


def test_statements_are_those_of_the_learned_table() -> None:
    """All parts must speak of one table: a goal list of one shape breaks the other."""
    shape = Shape(WINDOWS)

    shape.learn(ADOPTED)

    current = shape.current()
    assert current.table == current.ledger.table == ADOPTED
    assert current.settler.ledger is current.ledger
    assert current.settler.windows == WINDOWS


def test_equal_table_writes_nothing_anew() -> None:
    """Each reconnection learns; prepared statements are kept by their text and parts by identity."""
    shape = Shape(WINDOWS)
    shape.learn(OWN_TABLE)
    before = shape.current()

    shape.learn(msgspec.structs.replace(OWN_TABLE))

    assert shape.current() is before


def test_changed_table_writes_everything_anew() -> None:
    """`closedloop adopt` beside a running server takes effect with the next connection."""
    shape = Shape(WINDOWS)
    shape.learn(OWN_TABLE)
    before = shape.current()

    shape.learn(ADOPTED)

    assert shape.current().table == ADOPTED
    assert shape.current().ledger.append_statement != before.ledger.append_statement
    assert shape.current().waiting.found != before.waiting.found
