"""What is kept of a body must be read to the same again: digits, repeated names, order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from closedloop.errors import CallerError
from closedloop.parse.bodies import JsonNumber, query_fields
from closedloop.parse.nodes import JsonObject, form_text, json_text, parse_json, text_of

DOCUMENTS = ['{"a":1.50}', '{"a":17123456789012345678}', '{"a":1,"a":2}', '[null,true,"x"]', '{"b":1,"a":2}']


@pytest.mark.parametrize("document", DOCUMENTS)
def test_document_is_written_as_it_was_read(document: str) -> None:
    """A ClientID does not fit into a float, and a doubled field may be the one that counts."""
    assert json_text(parse_json(document.encode())) == document


@pytest.mark.parametrize("document", [b"", b"{", b"\xff", b"[" * 100_000])
def test_broken_json_is_told(document: bytes) -> None:
    """The sender looks for the place."""
    with pytest.raises(CallerError):
        parse_json(document)


def test_scalar_and_list_are_texts() -> None:
    """Tilda joins several answers of one question so."""
    assert text_of(JsonNumber("1.50")) == "1.50"
    assert text_of(["a", "", "b"]) == "a; b"
    assert text_of(None) == ""
    assert text_of(JsonObject([("a", "b")])) == '{"a":"b"}'


@given(st.lists(st.tuples(st.text(min_size=1).filter(lambda name: name.strip() == name), st.text())))
def test_form_is_read_to_the_same_pairs(pairs: list[tuple[str, str]]) -> None:
    """A replay must see what the webhook said."""
    assert query_fields(form_text(pairs).encode()) == pairs
