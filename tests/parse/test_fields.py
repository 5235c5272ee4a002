"""Every reader names the field as its sender does, and takes no word for nothing as a value."""

from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from closedloop.domain.ids import YmUid
from closedloop.domain.money import Amount
from closedloop.errors import CallerError
from closedloop.parse import fields as read
from closedloop.parse.bodies import JsonNumber, JsonOther, Value

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MOSCOW = ZoneInfo("Europe/Moscow")
NO_TEXTS = [
    JsonNumber("5.0"),
    JsonNumber("1e3"),
    JsonOther("a boolean", b"true"),
    JsonOther("an object", b"{}"),
    JsonOther("a list", b"[]"),
]


@pytest.mark.parametrize(
    "text",
    [
        "", "null", "NULL", "undefined", "None", "NaN", "[object Object]", "{{Lead.session_id}}",
        "{=Document:UF_X}",
        "{{=Document:UF_X}}", "%session_id%", "[[session]]", "${session}", "deal {{ID}} won",
        "{=Document:SUM} ₽",
        "{{=firstvalue({=Document:PHONE})}}",
    ],
)  # fmt: skip
def test_word_for_nothing_is_no_value(text: str) -> None:
    """Each was sent by a template whose variable did not exist."""
    assert read.is_nothing(text)


@pytest.mark.parametrize(
    "text", ["0", "nullable", "100%", "%", "%a b%", "{x}", "}} {{", "[x]", "$5", "-", "nil", "[[x", "|RUB"]
)
def test_other_words_are_values(text: str) -> None:
    """A rule that is too eager loses real ids and goals."""
    assert not read.is_nothing(text)


@pytest.mark.parametrize(
    ("text", "expected"), [("NaN", False), ("|RUB", True), ("|", True), ("null", True), ("5|RUB", False)]
)
def test_amount_has_its_own_words_for_nothing(text: str, expected: bool) -> None:  # noqa: FBT001
    """The contract wants NaN told to the sender; Bitrix24 prints an empty sum as its currency only."""
    assert read.is_nothing(text, is_amount=True) is expected


@pytest.mark.parametrize("text", [" x ", "x\r\n", "\u00a0x\u202f", "\ufeffx", "\u200bx\u2003", "\t x"])
def test_blanks_around_a_value_are_dropped(text: str) -> None:
    """Copied and templated values carry them unseen, and no lookup would find such an id."""
    assert read.trimmed(text) == "x"


def test_first_usable_value_wins() -> None:
    """The body stands before the query, but an empty field of it hides nothing."""
    pairs: list[tuple[str, Value]] = [
        ("a", " "),
        ("a", "1"),
        ("a", "2"),
        ("b", JsonNumber("5")),
        ("b", "6"),
        ("c", "null"),
    ]

    chosen = read.first_usable(pairs, frozenset())

    assert chosen == {"a": "1", "b": JsonNumber("5")}


def test_nul_is_refused_by_its_key() -> None:
    """PostgreSQL cannot hold it, and would fail far from the sender."""
    with pytest.raises(CallerError) as caught:
        read.first_usable([("session_id", "a\0b")], frozenset())

    assert caught.value.key == "session_id"


@pytest.mark.parametrize(
    ("value", "expected"), [(" x ", "x"), (JsonNumber("662"), "662"), (JsonNumber("-5"), "-5")]
)
def test_text_is_trimmed_and_integers_are_digits(value: Value, expected: str) -> None:
    """A deal's number is sent as text by one tool and as a number by the next."""
    assert read.text({"deal_id": value}, "deal_id") == expected


@pytest.mark.parametrize("value", NO_TEXTS)
@pytest.mark.parametrize("key", ["session_id", "phone", "email"])
def test_other_types_are_no_text(key: str, value: Value) -> None:
    """A float was rounded already, and an object is a wrong mapping; both must be put right."""
    reader = {"session_id": read.text, "phone": read.phone, "email": read.email}[key]

    with pytest.raises(CallerError, match="must be text or an integer") as caught:
        reader({key: value}, key)

    assert caught.value.key == key


def test_text_is_limited() -> None:
    """An index has no room for novels."""
    assert read.text({"a": "x" * 255}, "a") == "x" * 255
    with pytest.raises(CallerError, match="a is longer than 255 characters"):
        read.text({"a": "x" * 256}, "a")


@pytest.mark.parametrize(
    "read_field", [read.text, read.ym_uid, read.amount, read.currency, read.phone, read.email]
)
def test_absent_field_is_none(read_field: object) -> None:
    """The request did not say, which is not the same as zero or empty."""
    assert callable(read_field)
    assert read_field({}, "key") is None


@pytest.mark.parametrize(
    "value", ["1741000000123456789", " 1741000000123456789\n", JsonNumber("1741000000123456789")]
)
def test_ym_uid_is_read_from_its_digits(value: Value) -> None:
    """Through a float it would become another visitor."""
    assert read.ym_uid({"ym_uid": value}, "ym_uid") == YmUid(digits="1741000000123456789")


@pytest.mark.parametrize("value", ["1.7E+18", JsonNumber("1.7E+18"), JsonNumber("1.7e18")])
def test_ym_uid_of_a_float_has_an_interval(value: Value) -> None:
    """The visit can still be found when exactly one fits."""
    told = read.ym_uid({"ym_uid": value}, "ym_uid")

    assert told is not None
    assert told.digits == "17" + "0" * 17
    assert told.interval is not None


@pytest.mark.parametrize("value", ["0", JsonNumber("0"), "000"])
def test_ym_uid_of_zeros_is_none(value: Value) -> None:
    """It is how CRMs print an empty number."""
    assert read.ym_uid({"ym_uid": value}, "ym_uid") is None


@pytest.mark.parametrize(
    "value", ["-5", "five", JsonNumber("-5"), JsonNumber("1.5"), JsonNumber("1" * 21), *NO_TEXTS[2:]]
)
def test_other_ym_uid_is_refused(value: Value) -> None:
    """The field is mapped to something else in the CRM."""
    with pytest.raises(CallerError) as caught:
        read.ym_uid({"ym_uid": value}, "ym_uid")

    assert caught.value.key == "ym_uid"


@pytest.mark.parametrize(
    ("value", "expected"),
    [("1.100", "1100"), (JsonNumber("1.100"), "1.100"), (JsonNumber("1e3"), "1000"), (" 5 ", "5")],
)
def test_amount_of_a_program_is_no_amount_of_a_person(value: Value, expected: str) -> None:
    """A JSON number has one meaning; a text is read as people write."""
    assert read.amount({"goal_value": value}, "goal_value") == Amount(value=Decimal(expected))


@pytest.mark.parametrize("value", ["NaN", "Infinity", "five", "٣", "1e", "--5", "true", *NO_TEXTS[2:]])
def test_amount_that_is_no_number_is_refused(value: Value) -> None:
    """The contract promises the key and the text."""
    with pytest.raises(CallerError, match="goal_value is not a finite number") as caught:
        read.amount({"goal_value": value}, "goal_value")

    assert caught.value.shown == (value if isinstance(value, str) else getattr(value, "kind", None))


def test_currency_is_read_by_its_key() -> None:
    """The error names the field of the sender."""
    assert read.currency({"currency": " rur"}, "currency") == "RUB"
    with pytest.raises(CallerError) as caught:
        read.currency({"currency": "XYZ"}, "currency")
    assert caught.value.key == "currency"


@pytest.mark.parametrize(
    "value", ["1741436400 ", JsonNumber("1741436400"), JsonNumber("1741436400.0"), "2025-03-08T12:20Z"]
)
def test_moment_is_read_from_text_and_number(value: Value) -> None:
    """Unix time comes as either."""
    moment = read.moment({"occurred_at": value}, "occurred_at", zone=MOSCOW, now=NOW)

    assert moment == datetime(2025, 3, 8, 12, 20, tzinfo=UTC)


@pytest.mark.parametrize("value", ["soon", *NO_TEXTS[2:]])
def test_other_moment_is_refused(value: Value) -> None:
    """A conversion dated now by mistake would be credited to the wrong day."""
    with pytest.raises(CallerError) as caught:
        read.moment({"occurred_at": value}, "occurred_at", zone=MOSCOW, now=NOW)

    assert caught.value.key == "occurred_at"


@pytest.mark.parametrize("value", [" 70000000001", "+70000000001", JsonNumber("70000000001")])
def test_phone_is_read_with_its_lost_plus(value: Value) -> None:
    """An unescaped plus in a query arrives as a blank."""
    assert read.phone({"phone": value}, "phone") == "+70000000001"


def test_contact_that_is_none_is_dropped() -> None:
    """Nobody's conversion is refused because a manager wrote a note into the phone."""
    assert read.phone({"phone": "call later"}, "phone") is None
    assert read.email({"email": "none yet"}, "email") is None


@given(st.text())
def test_any_text_is_judged(text: str) -> None:
    """The rule runs over every value of every request."""
    assert read.is_nothing(read.trimmed(text)) in (True, False)
