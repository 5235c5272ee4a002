"""What a form of Tilda says is read in every shape, and nothing of the key is left in what is kept."""

import json
from decimal import Decimal
from typing import Any
from urllib.parse import quote, unquote_to_bytes, urlencode

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from closedloop.errors import CallerError, TooLargeError
from closedloop.parse.crm.tilda import MAX_PARTS, TildaLead, TildaOrder, presented_in_body, read_tilda

KEY = "demo-url-key-41"
KEYS = {"demo-url-key-41", "demo-header-key-41"}
CLIENT = "1741000000123456789"
FORM = "application/x-www-form-urlencoded"


def is_key(text: str) -> bool:
    """Return whether this is one of the site's keys."""
    return text in KEYS


def read(body: bytes, label: str = FORM) -> TildaLead:
    """Return the lead of a body."""
    return read_tilda(label, body, is_key=is_key)


def form(**fields: str) -> TildaLead:
    """Return the lead of a form with these fields."""
    return read(urlencode(fields).encode())


def said(lead: TildaLead) -> TildaLead:
    """Return the lead without what depends on how it was written."""
    return msgspec.structs.replace(lead, has_key=False, digest=b"", kept_body=b"")


def test_what_is_mistyped_is_not_known_and_nothing_is_refused() -> None:
    """A lead is money; a slip of the finger in a phone is not ours to judge."""
    lead = form(Phone="12", Email="anna@", ym_uid="1.7e18", session_id="{{session}}", tranid="7:1")

    assert (lead.phone, lead.email, lead.ym_uid, lead.session_id) == (None, None, None, None)
    assert lead.transaction_id == "7:1"


def test_code_of_a_messenger_is_found_in_any_field() -> None:
    """A visitor pastes it where there is room."""
    assert form(Textarea="Здравствуйте, код ta_0123456789ab").code == "ta_0123456789ab"


def test_repeated_request_has_the_same_digest() -> None:
    """Without a `tranid` a second attempt is recognised by it, whether or not the key came in the body."""
    bodies = [
        b"Name=a&Input=b",
        b"Name=a&Input=b&token=demo-url-key-41",
        b"token=demo-header-key-41&Name=a&Input=b",
    ]

    assert len({read(body).digest for body in bodies}) == 1


def test_marks_of_two_sources_are_not_mixed() -> None:
    """A campaign of the last click with a word of an earlier one would be an advertisement that never was."""
    cookie = "TILDAUTM=" + quote("utm_source=old|||utm_term=word|||")

    assert form(UTM_Source="new", utm_medium="{{medium}}", COOKIES=cookie).marks == {"utm_source": "new"}


def test_end_of_the_address_is_cut_from_a_mark() -> None:
    """Tilda's script takes the `#hash` of the address along."""
    cookie = "_ga=1;TILDAUTM=" + quote("utm_source=a%23b|||UTM_Term=last+word#rec1")

    assert form(COOKIES=cookie).marks == {"utm_source": "a#b", "utm_term": "last word"}


@pytest.mark.parametrize(
    ("field", "cookie", "expected"),
    [
        (CLIENT, "1", CLIENT),
        ("", CLIENT, CLIENT),
        ("{{ym_uid}}", CLIENT, CLIENT),
        ("1.741E+18", CLIENT, CLIENT),
        ("-5", CLIENT, CLIENT),
        ("0", CLIENT, CLIENT),
        ("123456789012345678901", CLIENT, CLIENT),
        ("1741000000123456800", CLIENT, CLIENT),  # rounded by a script on its way
        ("1741000000123456800", "1741000000999999999", "1741000000123456800"),
        ("1741000000123456800", "", "1741000000123456800"),
        ("garbage", "GA1.2", None),
    ],
)
def test_client_id_is_whole_digits_of_field_or_cookie(field: str, cookie: str, expected: str | None) -> None:
    """A wrong one would give the sale to a stranger."""
    assert form(ym_uid=field, COOKIES=f"a=b;_ym_uid={cookie} ;c").ym_uid == expected


def test_client_id_as_a_json_number_keeps_its_digits() -> None:
    """Through a float it would be another visitor's."""
    assert read(b'{"ym_uid": 1741000000123456789}').ym_uid == CLIENT


def test_ids_have_limits() -> None:
    """What is longer than any id is none; what was typed is cut."""
    lead = form(session_id="s" * 256, tranid="t" * 255, gclid="g" * 512, yclid="y" * 513, Input="x" * 3000)

    assert (lead.session_id, lead.transaction_id) == (None, "t" * 255)
    assert lead.click_ids == {"gclid": "g" * 512}
    assert len(lead.fields["Input"]) == 2000


def test_number_of_fields_is_limited() -> None:
    """A screen and a row have an end, and the phone is among the first."""
    lead = form(**{f"f{number}": "x" for number in range(300)})

    assert len(lead.fields) == 200


def test_answers_under_one_name_are_joined() -> None:
    """Tilda joins the ticks of a check box so, other senders repeat the name."""
    expected = {"Вкус": "кофе; чай"}

    assert read("Вкус[]=кофе&Вкус[]=чай&Вкус[]=кофе".encode()).fields == expected
    assert read('{"Вкус": ["кофе", "чай"]}'.encode()).fields == expected


def test_visitor_may_type_what_looks_like_nothing_elsewhere() -> None:
    """Braces inside a sentence are the visitor's own, an unfilled placeholder is nobody's."""
    lead = form(Input="цена {{price}} верна?", Textarea="{{form.Text}}", Name="null")

    assert lead.fields == {"Input": "цена {{price}} верна?"}


@pytest.mark.parametrize("name", ["cookies", "Cookies"])
def test_field_of_a_bakery_is_no_cookie(name: str) -> None:
    """An owner may sell them."""
    assert form(**{name: "три малиновых"}).fields == {name: "три малиновых"}
    assert form(**{name: "PHPSESSID=secret; _ga=1"}).kept_body.endswith(b"=_ga%3D1")


ORDER = TildaOrder(order_id="7", amount=Decimal("1800.5"), is_paid=True)
MEMBERS = (
    '{"systranid":"x1","orderid":"7","products":["a - 1x1 = 1",{"name":"b","amount":5}],"amount":"1800.5"}'
)


@pytest.mark.parametrize(
    "body",
    [
        f'{{"payment": {MEMBERS}}}',
        f'{{"Payment": {json.dumps(MEMBERS)}}}',
        f"payment={quote(MEMBERS)}",
        "payment[systranid]=x1&payment[orderid]=7&payment[products][0]=a&payment[amount]=1800.5",
        "payment[amount]=&payment[systranid]=x1&payment[orderid]=7&payment[amount]=1 800,50",
        '{"payment": {"systranid": 51, "orderid": 7, "amount": 1800.5}}',
        '[{"payment[systranid]": "x1", "payment[orderid]": "7", "payment[amount]": 1800.50}]',
    ],
)
@pytest.mark.parametrize("label", [FORM, "application/json", ""])
def test_order_is_one_whatever_carries_it(body: str, label: str) -> None:
    """Each is the outcome of some setting of the receiver, and labels are often wrong."""
    lead = read(body.encode(), label)

    assert lead.order == ORDER
    assert lead.fields == {}


@pytest.mark.parametrize("number", ["0", "", "00", "none", "null"])
def test_order_without_the_bank_is_not_paid(number: str) -> None:
    """Money that nobody received must not be told to an advertising platform."""
    lead = form(**{"payment[systranid]": number, "payment[amount]": "a lot"})

    assert lead.order == TildaOrder(order_id=None, amount=None, is_paid=False)


@pytest.mark.parametrize(
    ("text", "amount"), [("1.100", "1.100"), ("1,100", "1100"), ("0", "0"), ("1e3", "1000")]
)
def test_point_of_an_amount_is_a_decimal_one(text: str, amount: str) -> None:
    """Tilda writes sums as programs do, and a thousandfold order would be believed."""
    order = form(**{"payment[amount]": text}).order

    assert order is not None
    assert order.amount == Decimal(amount)


def test_field_called_payment_may_be_the_owners() -> None:
    """A question how to pay is no order."""
    lead = form(payment="картой")

    assert (lead.order, lead.fields) == (None, {"payment": "картой"})


PLACES = [
    b"k=demo-url-key-41",
    b"k=+demo-url-key-41%0A&Name=a",
    b"k=bearer%20demo-url-key-41",
    b"demo-url-key-41",
    b"demo-url-key-41=1",
    b"COOKIES=_ga%3Ddemo-url-key-41%3B+_fbp%3D1",
    b"COOKIES=TILDAUTM%3Dutm_term%253Ddemo-url-key-41",
    b'payment={"sys":"demo-url-key-41","orderid":"1"}',
    b'x={"a":"{\\"b\\":[\\"demo-url-key-41\\"]}"}',
    b'{"k": "demo-url-key-41"}',
    b'{"k": ["a", "Bearer demo-url-key-41"], "l": {"m": {"n": "demo-url-key-41"}}}',
    b'{"payment": {"promocode": "demo-url-key-41"}}',
    b'{"k": "[\\"demo\\u002durl-key-41\\"]"}',
]


@pytest.mark.parametrize("body", PLACES)
def test_key_is_taken_out_wherever_it_stands(body: bytes) -> None:
    """Owners put it anywhere that Tilda lets them."""
    lead = read(body)

    assert lead.has_key
    assert KEY not in repr(lead)
    assert KEY.encode() not in unquote_to_bytes(unquote_to_bytes(lead.kept_body))
    assert b"u002durl" not in lead.kept_body


def test_foreign_key_under_a_name_for_keys_is_not_kept() -> None:
    """An old key that was rotated out, or one of another service, is a secret as well."""
    lead = form(Name="a", **{"X-API-Key": "other", "Authorization": "Bearer other"})

    assert (lead.has_key, lead.kept_body, lead.fields) == (False, b"Name=a", {"Name": "a"})


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"X-Webhook-Key=a&API_KEY=Bearer+b&Name=c&token=", ["a", "b"]),
        (b'{"apikey": "a", "Key": 5, "name": "c"}', ["a", "5"]),
        (b"Name=c", []),
    ],
)
def test_presented_keys_are_known_by_their_names(body: bytes, found: list[str]) -> None:
    """The owner is told a wrong key from a missing one."""
    assert presented_in_body(FORM, body) == found


@pytest.mark.parametrize(
    ("body", "is_test"),
    [
        (b"test=test", True),
        (b"Test=test&key=demo-url-key-41", True),
        (b'{"test": "test"}', True),
        (b"test=test&tranid=7%3A1", False),
        (b"test=other", False),
        (b"", False),
    ],
)
def test_connection_test_is_nothing_else(body: bytes, *, is_test: bool) -> None:
    """A field that an owner called `test` must not swallow leads."""
    assert read(body).is_test is is_test


def test_multipart_is_kept_as_a_form() -> None:
    """Relays of the owner's own may send it; the key in it must be found, too."""
    label = "multipart/form-data; boundary=b"
    part = '--b\r\nContent-Disposition: form-data; name="{}"\r\n\r\n{}\r\n'
    lead = read((part.format("--Phone", "89000000000") + part.format("k", KEY) + "--b--\r\n").encode(), label)

    assert (lead.has_key, lead.phone) == (True, "+79000000000")
    assert read(lead.kept_body, label) == msgspec.structs.replace(lead, has_key=False)


@pytest.mark.parametrize(
    ("body", "key"),
    [
        (b"Name=a&Input=%ff", "Input"),
        (b'{"Name": "a", "Input": }', "Input"),
        (b'{"Name": "\xff"}', "Name"),
        (b'{"a": 1}, {"a": 2}', "body"),
        (b'[{"a": "1"}, {"a": "2"}]', "body"),
        (b'payment={"amount": }', "payment"),
        (b'{"a": ' + b"[" * 100 + b"]" * 100 + b"}", "body"),
        (b'{"a": ' + b"[" * 9000, "body"),
        (b"a&" * (MAX_PARTS + 1), "body"),
        (b"[" + b"1," * (MAX_PARTS + 1), "body"),
        (b"a=" + b"%5B" + b"1%2C" * (MAX_PARTS + 1) + b"1%5D", "body"),
        (b"&".join(b"a=[" + b"1," * 900 + b"1]" for _ in range(12)), "body"),
    ],
)
def test_broken_body_is_refused_by_its_key(body: bytes, key: str) -> None:
    """Whoever mends the sender looks for the place; and no body may cost more than its reader has."""
    with pytest.raises(CallerError) as caught:
        read(body)

    assert caught.value.key in (key, "a")


def test_body_above_a_megabyte_is_too_large() -> None:
    """The server asks for no more."""
    with pytest.raises(TooLargeError):
        read(b"a=" + b"x" * 1024 * 1024)


ANY_TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
NAMES = st.sampled_from(
    ["Phone", "session_id", "YM_UID", "COOKIES", "payment", "payment[amount]", "utm_term", "k"]
)
LEAVES = (
    ANY_TEXT
    | st.sampled_from([KEY, f"Bearer {KEY}", f'{{"a": "{KEY}"}}', "null", "{}", "[1, 2]"])
    | st.integers()
    | st.booleans()
    | st.none()
)
TREES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | ANY_TEXT, inner, max_size=3)
)
LABELS = [FORM, "application/json", "multipart/form-data; boundary=a", ""]


@given(st.binary(max_size=300), st.sampled_from(LABELS) | st.text(max_size=40))
@example(b'token=demo-url-key-41&{"a"=1', FORM)
@example(b'--a\r\nContent-Disposition: form-data; name="--a"\r\n\r\n{"\r\n--a--', LABELS[2])
def test_any_body_is_read_or_refused(body: bytes, label: str) -> None:
    """The address is open to the internet, once the key is known to a bot."""
    try:
        lead = read(body, label)
    except CallerError:
        return

    assert "\0" not in repr(lead.fields)
    assert read(lead.kept_body, label) == msgspec.structs.replace(lead, has_key=False)


@given(st.dictionaries(NAMES | ANY_TEXT, TREES, max_size=6))
def test_any_json_is_kept_without_the_key(document: dict[str, Any]) -> None:
    """A replay must not find another lead, nor anybody the key."""
    try:
        lead = read(json.dumps(document).encode(), "application/json")
    except CallerError:
        return

    assert KEY not in repr(lead)
    assert KEY.encode() not in lead.kept_body
    assert read(lead.kept_body) == msgspec.structs.replace(lead, has_key=False)


@given(st.dictionaries((NAMES | ANY_TEXT).filter(str.strip), LEAVES.map(str), max_size=6))
def test_kept_body_gives_the_same_lead(fields: dict[str, str]) -> None:
    """A replay must not find another lead, nor the key."""
    try:
        lead = read(urlencode({**fields, "one more": KEY}).encode())
    except CallerError:
        return

    assert lead.has_key
    assert KEY.encode() not in unquote_to_bytes(lead.kept_body)
    assert KEY not in repr(lead)
    assert msgspec.structs.replace(lead, has_key=False) == read(lead.kept_body)


@given(st.dictionaries(NAMES | ANY_TEXT, ANY_TEXT, max_size=6))
def test_form_and_json_give_the_same_lead(fields: dict[str, str]) -> None:
    """A setting of the receiver decides on one of them, and must not decide on anything else."""
    as_form = read(urlencode(fields).encode(), "application/json")
    as_json = read(json.dumps(fields).encode(), FORM)

    assert said(as_form) == said(as_json)


def test_json_that_is_no_object_is_refused() -> None:
    """It says nothing that could be kept."""
    with pytest.raises(CallerError):
        read(b"[1, 2]", "application/json")
