"""The hook takes what a dozen tools send; what they meant is read, and what they broke is named."""

import json
from datetime import UTC, datetime
from urllib.parse import quote_plus
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from closedloop.domain.conversion import ReportedConversion
from closedloop.errors import CallerError, MissingIdError, TooLargeError
from closedloop.parse.crm.hook import HookRequest, Reading, read_conversions

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MOSCOW = ZoneInfo("Europe/Moscow")
YM_UID = "1741000000123456789"


def read(body: object = b"", *, query: str = "", header: str | None = None) -> Reading:
    """Read a request as the server does; a body that is not bytes is sent as JSON."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = HookRequest(query=query.encode(), content_type="", body=raw, idempotency_key=header)
    return read_conversions(request, zone=MOSCOW, now=NOW)


def read_one(body: object = b"", *, query: str = "", header: str | None = None) -> ReportedConversion:
    """Return the only conversion of a request."""
    [told] = read(body, query=query, header=header).conversions
    return told


def test_rounded_number_brings_its_interval() -> None:
    """The repair of an id that JavaScript rounded starts from here, for numbers and texts alike."""
    for body in ({"ym_uid": 1741000000123456800}, {"ym_uid": "1741000000123456800"}):
        told = read_one(body)

        assert told.ym_uid == "1741000000123456800"
        assert told.ym_uid_interval == ("1741000000123456640", "1741000000123456896")


def test_intact_number_is_read_from_its_digits() -> None:
    """Through a float …789 would be …768, another visitor."""
    told = read_one({"ym_uid": int(YM_UID)})

    assert told.ym_uid == YM_UID
    assert told.ym_uid_interval is None


def test_body_wins_over_the_query() -> None:
    """The address is typed once, the body is of this deal."""
    told = read_one({"session_id": "body"}, query="session_id=query&deal_id=1")

    assert (told.session_id, told.deal_id) == ("body", "1")


@pytest.mark.parametrize("value", [None, "", "\u00a0", "null", "{{Lead.session_id}}"])
def test_empty_value_of_the_body_leaves_the_query(value: str | None) -> None:
    """A template that sends all fields always must not hide what the address says."""
    assert read_one({"session_id": value}, query="session_id=query").session_id == "query"


def test_first_usable_repetition_counts() -> None:
    """A form with two fields of one name mostly has one of them empty."""
    assert read_one(b"session_id=&session_id=a&session_id=b").session_id == "a"


@pytest.mark.parametrize("value", [1.5, 1e20, True, {"a": 1}, ["x"]])
@pytest.mark.parametrize(
    "key", ["session_id", "goal_name", "currency", "deal_id", "event_id", "yclid", "site", "phone"]
)
def test_wrong_type_is_refused_by_its_key(key: str, value: object) -> None:
    """A wrong mapping is put right by its author, who knows only the key."""
    with pytest.raises(CallerError) as caught:
        read_one({"session_id": "s", key: value})

    assert caught.value.key == key
    assert caught.value.status == 400


def test_currency_of_the_key_wins_over_that_of_the_sum() -> None:
    """The key was filled in on purpose; the sign is how a field is printed."""
    assert read_one({"session_id": "s", "goal_value": "5 $"}).currency == "USD"
    assert read_one({"session_id": "s", "goal_value": "5 $", "currency": "eur"}).currency == "EUR"


@pytest.mark.parametrize(
    "body",
    [
        b"document_id%5B%5D=crm&document_id%5B%5D=CCrmDocumentDeal&document_id%5B%5D=DEAL_662",
        b"document_id[0]=crm&document_id[1]=CCrmDocumentDeal&document_id[2]=DEAL_662",
        b"document_id=crm&document_id=CCrmDocumentDeal&document_id=DEAL_662",
        {"document_id": ["crm", "CCrmDocumentDeal", "DEAL_662"]},
        {"document_id": {"0": "crm", "1": "CCrmDocumentDeal", "2": "DEAL_662"}},
        {"document_id": "DEAL_662"},
        {"document_id[2]": "DEAL_662"},
    ],
)
def test_deal_of_a_robot_is_read_from_its_document(body: object) -> None:
    """Bitrix24 names the deal there and nowhere else; parsers on the way spell lists differently."""
    assert read_one(body, query="session_id=s").deal_id == "662"
    assert read_one(body, query="session_id=s&deal_id=7").deal_id == "7"


@pytest.mark.parametrize("document", ["LEAD_662", "SMART_INVOICE_9", "DYNAMIC_1032_21", "CONTACT_7"])
def test_other_documents_are_no_deals(document: str) -> None:
    """Lead 662 is another thing than deal 662, and each counts once."""
    assert read_one(f"document_id[2]={document}".encode(), query="session_id=s").deal_id == document


def test_click_ids_are_enough() -> None:
    """A lead form may carry nothing but the click, and Google's are longer than other ids."""
    told = read_one({"yclid": 12345678901234567890, "gclid": "g" * 512, "fbclid": None, "other": "x"})

    assert told.click_ids == {"yclid": "12345678901234567890", "gclid": "g" * 512}
    with pytest.raises(CallerError, match="gclid is longer than 512 characters"):
        read_one({"gclid": "g" * 513})


@pytest.mark.parametrize("key", ["phone", "email"])
def test_bad_contact_is_no_reason_to_refuse(key: str) -> None:
    """The session is known; a note in the wrong field must not lose the sale."""
    told = read_one({"session_id": "s", key: "call later"})

    assert getattr(told, key) is None


@pytest.mark.parametrize("key", ["phone", "email"])
def test_bad_contact_alone_is_refused_without_being_shown(key: str) -> None:
    """The sentence goes to logs, where personal data has no place."""
    with pytest.raises(CallerError) as caught:
        read_one({key: "call Anna later"})

    assert caught.value.key == key
    assert "Anna" not in str(caught.value)


def test_plus_that_became_a_blank_is_restored() -> None:
    """`+` in a query that nobody escaped means a blank, by the rules of forms."""
    assert read_one(query="phone=+70000000001").phone == "+70000000001"


@pytest.mark.parametrize("body", [{}, b"", {"deal_id": 1}, b"hello", {"session_id": " ", "ym_uid": 0}])
def test_request_without_a_visitor_has_the_sentence_of_the_contract(body: object) -> None:
    """Scripts compare this text."""
    with pytest.raises(MissingIdError) as caught:
        read(body)

    assert str(caught.value) == "Missing session_id or ym_uid"
    assert caught.value.index is None


def test_event_id_comes_from_key_or_header() -> None:
    """Both name the event; the body's own word is nearer to it."""
    assert read_one({"session_id": "s"}, header=" e1 ").event_id == "e1"
    assert read_one({"session_id": "s", "event_id": "e2"}, header="e1").event_id == "e2"
    assert read_one({"session_id": "s"}, header="").event_id is None


@pytest.mark.parametrize("header", ["x" * 256, "a\0b", "\udcff"])
def test_bad_header_is_refused_by_its_name(header: str) -> None:
    """It is stored like any other id."""
    with pytest.raises(CallerError) as caught:
        read({"session_id": "s"}, header=header)

    assert caught.value.key == "Idempotency-Key"


def test_array_is_read_in_order_with_the_query_as_defaults() -> None:
    """The address names what all deals share."""
    reading = read([{"session_id": "a"}, {"session_id": "b", "goal_name": "own"}], query="goal_name=shared")

    assert reading.is_array
    assert [(told.session_id, told.goal) for told in reading.conversions] == [("a", "shared"), ("b", "own")]


@pytest.mark.parametrize(("query", "header"), [("", "e"), ("event_id=e", None), ("event_id=e", "other")])
def test_items_of_an_array_are_events_of_their_own(query: str, header: str | None) -> None:
    """One header for a hundred deals must not make ninety-nine of them repetitions."""
    reading = read([{"session_id": "a"}, {"session_id": "a", "event_id": "own"}], query=query, header=header)

    assert [told.event_id for told in reading.conversions] == ["e#0", "own"]


@pytest.mark.parametrize(
    ("item", "sentence"),
    [
        ({"session_id": 1.5}, "item 1: session_id must be text"),
        ({}, "item 1: Missing session_id or ym_uid"),
        ("x", "item 1: body is not a JSON object"),
        (None, "item 1: body is not a JSON object"),
        ({"session_id": "\0"}, "item 1: session_id contains a NUL"),
    ],
)
def test_error_in_an_array_has_the_index_of_its_item(item: object, sentence: str) -> None:
    """All or nothing is taken, so the sender must know which of a hundred it was."""
    with pytest.raises(CallerError) as caught:
        read([{"session_id": "a"}, item])

    assert caught.value.index == 1
    assert str(caught.value).startswith(sentence)


def test_repetition_is_recognised_by_its_bytes() -> None:
    """Zapier replays for ten hours, and in between the owner may have changed the key in the address."""
    body = {"session_id": "s", "goal_value": 5}
    first = read_one(body, query="key=old&goal_name=g").digest

    assert read_one(body, query="goal_name=g&key=new").digest == first
    assert read_one(body, query="goal_name=h&key=old").digest != first
    assert read_one(body | {"goal_value": 6}, query="goal_name=g").digest != first
    assert len(first) == 32


def test_equal_items_of_an_array_differ_and_repeat() -> None:
    """Two equal sales in one array are two; the same array again is none; alone it is the first again."""
    item = {"session_id": "s"}
    first = [told.digest for told in read([item, item, {"session_id": "t"}]).conversions]
    again = [told.digest for told in read([item, {"session_id": "t"}, item]).conversions]

    assert len(set(first)) == 3
    assert set(again) == set(first)
    assert read_one(item).digest == first[0]


def test_too_large_body_has_its_own_error() -> None:
    """It is answered 413."""
    with pytest.raises(TooLargeError):
        read(b" " * 65_537)


@pytest.mark.parametrize(
    "key", ["session_id", "goal_name", "deal_id", "event_id", "yclid", "site", "phone", "goal_value"]
)
def test_nul_is_refused_by_its_key(key: str) -> None:
    """PostgreSQL cannot hold it; without this the answer would be a 500."""
    for body in ({key: "a\0b"}, f"{key}=a%00b".encode()):
        with pytest.raises(CallerError) as caught:
            read(body, query="session_id=s")

        assert caught.value.key == key


@pytest.mark.parametrize(
    "body", [b'{"deal_id":"\xff"}', b'{"deal_id":"\\ud800"}', b"deal_id=%FF", b"deal_id=\xff"]
)
def test_text_that_is_no_unicode_is_refused_by_its_key(body: bytes) -> None:
    """Half characters cannot be stored, whichever way they came."""
    with pytest.raises(CallerError) as caught:
        read(body, query="session_id=s")

    assert caught.value.key == "deal_id"


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
KEYS = st.sampled_from(
    [
        "session_id", "ym_uid", "goal_name", "goal_value", "currency", "deal_id", "event_id", "occurred_at",
        "phone", "email", "site", "yclid", "gclid", "document_id", "document_id[2]", "other",
    ]
)  # fmt: skip
DOCUMENTS = st.dictionaries(KEYS, JSON_VALUES)


def outcome(body: object) -> object:
    """Return what is read of a body, or what is said against it."""
    try:
        return msgspec.structs.replace(read_one(body, query="fbclid=1"), digest=b"")
    except CallerError as error:
        return str(error)


@settings(deadline=None)
@given(
    st.binary() | st.text().map(str.encode),
    st.text() | st.sampled_from(["application/json", "multipart/form-data; boundary=a"]),
    st.binary() | (DOCUMENTS | st.lists(DOCUMENTS)).map(lambda document: json.dumps(document).encode()),
    st.none() | st.text(),
)
def test_any_request_is_read_or_refused(query: bytes, label: str, body: bytes, header: str | None) -> None:
    """The server never answers 500 for what a caller sent."""
    request = HookRequest(query=query, content_type=label, body=body, idempotency_key=header)

    try:
        reading = read_conversions(request, zone=MOSCOW, now=NOW)
    except CallerError:
        return

    assert reading.conversions
    values = [value for told in reading.conversions for value in msgspec.structs.astuple(told)]
    assert not any("\0" in value for value in values if isinstance(value, str))


@settings(deadline=None)
@example("document_id", "\0")
@given(KEYS, st.text() | st.from_regex(r"[A-Z]{4,7}_[0-9]{1,4}", fullmatch=True))
def test_any_form_is_read_as_any_json(key: str, text: str) -> None:
    """The way of sending changes nothing of what is said."""
    form = f"{quote_plus(key)}={quote_plus(text)}"

    from_form, from_json = outcome(form.encode()), outcome({key: text})

    assert from_form == from_json
