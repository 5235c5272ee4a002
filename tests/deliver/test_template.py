"""A macro stands for what the sale has, and no value ends the text that it stands in."""

import html
from decimal import Decimal
from urllib.parse import parse_qsl, urlsplit

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from closedloop.deliver.template import MACROS, fill, macros_in, sample, template_mistakes, values_of
from closedloop.domain.delivery import Sale
from closedloop.domain.ids import CLICK_IDS
from fix_destinations import EMAIL, PHONE, SALES, sale
from fix_tools import REPOSITORY

VALUES = {
    "value": "12000.50",
    "value_int": "12001",
    "revision": "1",
    "unix_time": "1795514400",
    "unix_ms": "1795514400000",
    "currency": "RUB",
    "goal": "payment_success",
    "deal_id": "662",
    "order_id": "662",
    "conversion_id": "00000000-0000-0000-0000-000000000002",
    "site": "default",
    "time": "2026-11-24T10:00:00Z",
    "phone_sha256": "091ac1171e8604ddd5e44aff4e22ec2d0d3befacd58079360a4be2ea6767f7e6",
    "email_sha256": "1add7f5415d97550c5c3bb7f2eab072c48dcc77d5b66d1ff41ee466cbd01530d",
    "ym_uid": "1741000000123456789",
    "session_id": "s-1",
    "user_id": "u-1",
    "fbp": "fb.1.1.2",
    "fbc": "fb.1.1.3",
    "ga_uid": "GA1.1.1.2",
    "ga_session": "GS1.1.3",
    "event": "approved",
    "token": "hunter2",
    "click_id:rb_clickid": "aB;c/1",
}
WORDS = {"event": "approved", "token": "hunter2"}
KNOWN = {
    name: VALUES[name] for name in ("ym_uid", "session_id", "user_id", "fbp", "fbc", "ga_uid", "ga_session")
}
TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)


def test_every_macro_has_its_value() -> None:
    """The list in the guide is what an owner builds on."""
    one = sale(ids={**KNOWN, "rb_clickid": "aB;c/1"}, phones=[PHONE], emails=[EMAIL])

    assert set(VALUES) == {*MACROS, "click_id:rb_clickid"}
    assert values_of(one, VALUES, WORDS) == VALUES


def test_guide_names_every_macro() -> None:
    """It is the only list that an owner sees."""
    guide = (REPOSITORY / "docs" / "ru" / "postback.md").read_text(encoding="utf-8")

    assert [name for name in MACROS if f"`{{{name}}}`" not in guide] == []
    assert [name for name in CLICK_IDS if f"`{name}`" not in guide] == []


def test_value_that_the_sale_lacks_is_none() -> None:
    """A postback without its click id would be counted for nobody."""
    names = ["deal_id", "click_id:yclid", "ym_uid", "phone_sha256", "order_id"]

    values = values_of(sale(deal_id=None), names, WORDS)
    assert values.pop("order_id") == VALUES["conversion_id"]
    assert set(values.values()) == {None}


@pytest.mark.parametrize("dots", [".", "..", "..."])
def test_value_of_dots_is_none(dots: str) -> None:
    """In a path it would lead to another one, and visitors write these values."""
    assert values_of(sale(ids={"yclid": dots}), ["click_id:yclid"], WORDS) == {"click_id:yclid": None}


@pytest.mark.parametrize(
    ("value", "whole"),
    [("0.49", "0"), ("0.5", "1"), ("1.5", "2"), ("2.5", "3"), ("999999999999999.999999", "1000000000000000")],
)
def test_whole_value_is_rounded_half_up(value: str, whole: str) -> None:
    """VK Ads takes whole numbers only, and banks round up."""
    assert values_of(sale(value=Decimal(value)), ["value_int"], WORDS) == {"value_int": whole}


def test_macros_are_found_once_each() -> None:
    """Braces of JSON are none."""
    text = '{"a": {value}, "b": {"c": "{click_id:rb_clickid}{value}"}}'

    assert macros_in(text, "{goal}") == ["value", "click_id:rb_clickid", "goal"]


@pytest.mark.parametrize(
    ("text", "mistakes"),
    [
        ("{value}{click_id:yclid}{click_id:admitad_uid}", []),
        ("{valeu}", ["has an unknown macro {valeu}; did you mean 'value'?"]),
        ("{value:2}", ["has an unknown macro {value:2}; did you mean 'value'?"]),
        ("{click_id}", ["must name the click id: {click_id:yclid}; known are: yclid, gclid, "]),
        ("{click_id:rb_clickd}", ["has an unknown click id 'rb_clickd'; did you mean 'rb_clickid'?"]),
        ("{{value}}", ["has a brace that belongs to no macro such as {value}"]),
        ("{value", ["has a brace that belongs to no macro such as {value}"]),
        ("{q}", ["has an unknown macro {q}; known are: value, value_int, "]),
    ],
)
def test_mistake_in_a_macro_is_told(text: str, mistakes: list[str]) -> None:
    """A macro that stays as it is would be sent as it is, with every sale."""
    told = list(template_mistakes(text))

    assert [line[: len(mistake)] for line, mistake in zip(told, mistakes, strict=True)] == mistakes


def test_json_may_have_braces_of_its_own() -> None:
    """They are not ours."""
    assert list(template_mistakes('{"a": {value}}', braces=True)) == []


def test_sample_breaks_what_forgets_to_escape() -> None:
    """A mistake is found at the start, and not by the first client with quotes in the name."""
    assert msgspec.json.decode(sample('{"a": {value}, "b": "{goal}"}', "json"))["a"] == 5
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(sample('{"a": {ym_uid}}', "json"))


@given(TEXT)
def test_value_in_an_address_stays_one_value(text: str) -> None:
    """A click id with `&` in it must not add parameters."""
    url = fill("https://a.example/p/{goal}?x={goal};y={goal}&z=1", "url", {"goal": text})

    assert url.isascii()
    assert urlsplit(url).netloc == "a.example"
    assert parse_qsl(urlsplit(url).query, separator=";")[0] == ("x", text)
    assert url.count("&") == url.count("?") == 1
    assert url.partition("?")[0].count("/") == 4


@given(TEXT)
def test_value_in_a_body_stays_one_value(text: str) -> None:
    """A goal with quotes in it must not add fields."""
    values = {"goal": text}

    assert msgspec.json.decode(fill('{"a": "{goal}"}', "json", values)) == {"a": text}
    assert parse_qsl(fill("a={goal}&b=1", "form", values)) == [("a", text), ("b", "1")]
    assert fill("{goal}", "text", values) == text


@given(TEXT)
def test_value_in_xml_stays_text(text: str) -> None:
    """A goal with tags in it must not add elements."""
    filled = fill("{goal}", "xml", {"goal": text})

    allowed = "".join(
        sign for sign in text if sign in "\t\n\r" or (sign >= " " and sign not in "\ufffe\uffff")
    )
    assert not set(filled) & set("<>\"'")
    assert html.unescape(filled) == allowed


@given(TEXT)
def test_value_in_a_header_stays_in_its_line(text: str) -> None:
    """A line break in a click id would begin another header."""
    filled = fill("Bearer {token}", "header", {"token": text})

    assert filled.isascii()
    assert filled.isprintable()


@given(SALES)
def test_any_sale_has_values(one: Sale) -> None:
    """What comes from a CRM and a browser is not ours."""
    values = values_of(one, VALUES, WORDS)

    assert values["value"] is not None
    assert Decimal(values["value"]) == one.value
    assert all(value != "" for value in values.values())
