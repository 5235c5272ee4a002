"""Bodies come mislabelled, pasted together and cut off; what is in them is read, or the place is named."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from closedloop.errors import CallerError, TooLargeError
from closedloop.parse.bodies import (
    Body,
    JsonNumber,
    JsonOther,
    ObjectReader,
    query_fields,
    read_body,
    without_parameter,
)

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=XX"
read_object = ObjectReader(("a", "b"))


def part(name: str, value: str, more: str = "") -> str:
    """Return one part of a multipart body."""
    return f'--XX\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n{value}\r\n'


@pytest.mark.parametrize(
    "label", [JSON, FORM, "text/plain", "", "application/vnd.api+json; charset=utf-8", MULTIPART]
)
@pytest.mark.parametrize("document", [b'{"a":1}', b' \r\n{"a":1}', b'\xef\xbb\xbf{"a":1}'])
def test_json_is_read_under_any_label(label: str, document: bytes) -> None:
    """The program curl labels JSON a form, Make labels it text, and Windows puts a mark in front."""
    body = read_body(document, label)

    assert not body.is_array
    assert read_object(body.objects[0]) == [("a", JsonNumber("1"))]


def test_array_is_split_into_its_items() -> None:
    """Make and n8n send several deals at once."""
    body = read_body(b'[ {"a": 1} , {"b":"x"}]', JSON)

    assert body == Body(is_array=True, objects=[b'{"a": 1}', b'{"b":"x"}'])


@pytest.mark.parametrize("label", [FORM, "text/plain", "", "application/octet-stream", "\udcff"])
def test_form_is_read_under_any_other_label(label: str) -> None:
    """What is not JSON is a form, with blanks, escapes, bare names and repetitions."""
    body = read_body(b"a=1+2&b=%D0%AF&c&a=3&&=4&d=x=y", label)

    assert body.fields == [("a", "1 2"), ("b", "Я"), ("c", ""), ("a", "3"), ("", "4"), ("d", "x=y")]


@pytest.mark.parametrize(
    "form",
    [
        b'data={"a":1}',
        b"data=%7B%22a%22%3A1%7D",
        b"%7B%22a%22%3A1%7D",
        (part("data", '{"a":1}') + "--XX--").encode(),
    ],
)
def test_json_in_the_only_field_of_a_form_is_read(form: bytes) -> None:
    """Some senders can only fill one field, and put everything there."""
    body = read_body(form, MULTIPART if form.startswith(b"--XX") else FORM)

    assert read_object(body.objects[0]) == [("a", JsonNumber("1"))]


def test_array_in_the_only_field_of_a_form_is_read() -> None:
    """The same sender with several deals."""
    body = read_body(b'data=[{"a":1},{"a":2}]', FORM)

    assert body == Body(is_array=True, objects=[b'{"a":1}', b'{"a":2}'])


@pytest.mark.parametrize("value", [b"{{Lead.a}}", b"{=Document:A}", b"[x]", b"{}", b"[]"])
def test_placeholder_in_the_only_field_stays_a_field(value: bytes) -> None:
    """An unfilled template looks like JSON at first sight, and the query may hold all that counts."""
    body = read_body(b"a=" + value, FORM)

    assert body.fields == [("a", value.decode())]


def test_multipart_gives_its_text_fields() -> None:
    """A form with a file is still a form; the file is nothing to us."""
    raw = (
        part("a", "1\r\n2")
        + part("f", "x", '; filename="f.txt"')
        + part("b", "Я")
        + part("c", "")
        + "--XX--\r\n"
    )

    body = read_body(raw.encode(), MULTIPART)

    assert body.fields == [("a", "1\r\n2"), ("b", "Я"), ("c", "")]


@pytest.mark.parametrize(
    "label", [MULTIPART, "multipart/form-data", 'multipart/form-data; boundary="Y"', MULTIPART + "\udcff"]
)
def test_broken_multipart_is_refused(label: str) -> None:
    """The body was cut off, or the label's boundary is another one."""
    with pytest.raises(CallerError) as caught:
        read_body(b"--XX\r\nContent-Disposition: form-data; name=a\r\n\r\n1", label)

    assert caught.value.key == "body"


@pytest.mark.parametrize("body", [b"", b" \r\n", b"\xef\xbb\xbf"])
def test_empty_body_has_no_fields(body: bytes) -> None:
    """Everything may be in the query."""
    assert read_body(body, JSON) == Body()


def test_body_over_64_kib_is_too_large() -> None:
    """The limit is in bytes as received, and is answered with its own status."""
    with pytest.raises(TooLargeError, match="body is larger than 64 KiB"):
        read_body(b" " * (64 * 1024 + 1), JSON)


@pytest.mark.parametrize("body", [b"a=1", b"null", b'"a"', b"\xff\xfe{\0"])
def test_other_text_labelled_json_is_refused(body: bytes) -> None:
    """The sender meant an object and should know that none arrived."""
    with pytest.raises(CallerError) as caught:
        read_body(body, JSON)

    assert caught.value.key == "body"


@pytest.mark.parametrize(
    ("document", "problem"),
    [(b"[]", "is an empty array"), (b"[" + b"1," * 100 + b"1]", "is an array of more than 100 items")],
)
def test_array_has_one_to_a_hundred_items(document: bytes, problem: str) -> None:
    """Nothing is answered for nothing, and a transaction stays short."""
    with pytest.raises(CallerError) as caught:
        read_body(document, JSON)

    assert caught.value.key == "body"
    assert caught.value.problem == problem


@pytest.mark.parametrize(
    ("document", "key", "position"),
    [
        (b'{"x":"y","a":,"b":1}', "a", 13),
        ('{"x":1,"b":"Дом "Ы"","a":1}'.encode(), "b", 17),
        (b'{"a":"cut off', "a", 13),
        (b'{"a":01}', "a", 6),
        (b'{"a":"\\ud83d","b":1}', "a", 6),
        (b'{"a":"\xff"}', "a", 6),
        (b'{"a":"say \\"b\\": ",}', "a", 19),
        (b"{a:1}", "body", 1),
        (b'{"":}', "body", 4),
        (b'{"a":1}{"a":2}', "a", 8),
        (b'[{"a":1},{"b":}]', "b", 14),
    ],
)
def test_broken_json_names_key_and_position(document: bytes, key: str, position: int) -> None:
    """A template with pasted values breaks at the value; its author looks for the field's name."""
    with pytest.raises(CallerError) as caught:
        read_object(read_body(document, JSON).objects[0])

    assert caught.value.key == key
    assert caught.value.problem.endswith(f"at position {position}")


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "None", "True", "undefined"])
def test_word_of_another_language_is_shown(word: str) -> None:
    """Python and JavaScript programs print them where JSON has none."""
    with pytest.raises(CallerError) as caught:
        read_object(f'{{"a":{word}}}'.encode())

    assert caught.value.key == "a"


@pytest.mark.parametrize(
    "deep", [b"[" * 60_000, b'{"x":' * 12_000, b'{"x":' + b"[" * 60_000, b'{"a":' + b"[" * 60_000]
)
def test_deep_nesting_is_refused(deep: bytes) -> None:
    """It exhausts the parser's stack, which must not become a fault of ours."""
    with pytest.raises(CallerError, match="body is nested too deeply"):
        read_object(read_body(deep, JSON).objects[0])


@pytest.mark.parametrize("number", ["5000.10", "1741000000123456789012", "1e3", "-0", "1E+400"])
def test_number_keeps_its_digits(number: str) -> None:
    """A float would round ids and money."""
    fields = read_object(f'{{"a": {number} }}'.encode())

    assert fields == [("a", JsonNumber(number))]


def test_other_types_are_told_apart() -> None:
    """Each reader of a field decides what it takes; null is as good as absent."""
    fields = read_object(b'{"zz":{"a":0},"b":[1],"a":true}'), read_object(b'{"a":null,"b":{"c":1}}')

    assert fields[0] == [("a", JsonOther("a boolean", b"true")), ("b", JsonOther("a list", b"[1]"))]
    assert fields[1] == [("b", JsonOther("an object", b'{"c":1}'))]


@pytest.mark.parametrize("item", [b"1", b'"x"', b"null", b"[]"])
def test_item_that_is_no_object_is_refused(item: bytes) -> None:
    """A list of anything else is not a list of conversions."""
    with pytest.raises(CallerError, match="body is not a JSON object"):
        read_object(item)


@pytest.mark.parametrize("query", [b"x=1&a=%FF", b"a=\xd0"])
def test_bad_utf8_in_a_query_names_the_key(query: bytes) -> None:
    """An old installation in another encoding is told which field it was."""
    with pytest.raises(CallerError) as caught:
        query_fields(query)

    assert caught.value.key == "a"
    assert "is not UTF-8 at position 0" in caught.value.problem


@pytest.mark.parametrize(
    ("query", "rest"),
    [
        (b"", b""),
        (b"key=1", b""),
        (b"a=1&key=2&b=%20", b"a=1&b=%20"),
        (b"%6Bey=2&a=1&key", b"a=1"),
        (b"keys=2&a=key=1", b"keys=2&a=key=1"),
    ],
)
def test_parameter_is_left_out_however_it_is_escaped(query: bytes, rest: bytes) -> None:
    """A repetition is the same request even after the site's key was changed."""
    assert without_parameter(query, b"key") == rest


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_valid_json_around_a_key_never_hides_it(other: object) -> None:
    """Whatever else a CRM puts into the object, the key that we read is found."""
    document = json.dumps({"x": other, "a": "found", "y": other}).encode()

    assert read_object(read_body(document, JSON).objects[0]) == [("a", "found")]


@settings(deadline=None)
@given(
    st.binary() | st.text(alphabet='{}[]":,\\ \t\n0123456789eE+-.ntfab\u00e9').map(str.encode),
    st.sampled_from([JSON, FORM, MULTIPART, ""]) | st.text(),
)
def test_any_bytes_are_read_or_refused(raw: bytes, label: str) -> None:
    """The server never answers 500 for what a caller sent."""
    try:
        body = read_body(raw, label)
        fields = [read_object(document) for document in body.objects]
    except CallerError:
        return

    assert fields == [] or body.fields == []


@given(st.binary(max_size=60))
def test_any_multipart_is_read_or_refused(junk: bytes) -> None:
    """Its parser is the largest of all, and not ours."""
    raw = b"--XX\r\nContent-Disposition: form-data; name=a" + junk + b"\r\n\r\n1\r\n--XX--"

    try:
        body = read_body(raw, MULTIPART)
    except CallerError:
        return

    assert len(body.fields) <= 1
