"""One struct says all of a destination's settings: what a file may hold, a form shows and a log tells."""

from typing import Annotated, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from closedloop.deliver.fields import about, fields_of, masked, read_settings
from closedloop.errors import ConfigError


class Shop(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of every kind."""

    counter: Annotated[str, Meta(pattern="^[0-9]+$"), about("Counter", "Its number.", example="12345678")]
    token: Annotated[str, about("Token", "Its key.", example="y0_abc", secret=True)]
    url: Annotated[str, about("Address", "Its address.", example="https://a.example")] = "https://b.example"
    goals: Annotated[tuple[str, ...], about("Goals", "Its goals.", example=("paid",))] = ()
    days: Annotated[int, Meta(ge=1), about("Days", "How long.", example=21)] = 21
    mode: Annotated[Literal["orders", "offline"], about("Mode", "Which door.", example="orders")] = "orders"
    headers: Annotated[dict[str, str], about("Headers", "More.", example={"a": "b"})] = {}
    is_test: Annotated[bool, about("Test", "Nothing is sent.", example=True)] = False

    def mistakes(self) -> list[tuple[str, str]]:
        """Tell what the types do not."""
        return [("url", "must begin with https://")] if not self.url.startswith("https://") else []


class Strict(msgspec.Struct, frozen=True, kw_only=True):
    """Settings that refuse to be made."""

    low: Annotated[int, about("Low", "The lower.", example=1)] = 1

    def __post_init__(self) -> None:
        if self.low > 1:
            raise ValueError("low must be 1")


GOOD: dict[str, object] = {"counter": "12345678", "token": "y0_secret"}


def mistakes_of(table: dict[str, object], shape: type[msgspec.Struct] = Shop) -> list[str]:
    """Return what is wrong with a table."""
    with pytest.raises(ConfigError) as caught:
        read_settings(shape, table)
    return caught.value.mistakes


def test_field_says_all_that_a_form_needs() -> None:
    """Nothing about a setting is written down twice."""
    counter, token, *_, mode, _, _ = fields_of(Shop)

    assert (counter.title, counter.help, counter.examples) == ("Counter", "Its number.", ("12345678",))
    assert (counter.is_secret, token.is_secret) == (False, True)
    assert (counter.is_required, mode.is_required, mode.default) == (True, False, "orders")
    assert mode.choices == ("orders", "offline")


def test_field_whose_author_said_nothing_is_bare() -> None:
    """The suite of the destinations finds it."""

    class Bare(msgspec.Struct):
        """Says nothing."""

        a: str

    [field] = fields_of(Bare)
    assert (field.title, field.help, field.examples, field.is_secret) == ("", "", (), None)


def test_short_spellings_are_understood() -> None:
    """A counter is a number to its owner, and one goal is no list."""
    told: dict[str, object] = {"counter": 12345678, "goals": "paid", "headers": {"a": 5}, "days": "30"}

    expected = Shop(counter="12345678", token="y0_secret", goals=("paid",), headers={"a": "5"}, days=30)  # noqa: S106
    assert read_settings(Shop, {**GOOD, **told}) == expected


def test_form_of_texts_is_understood() -> None:
    """A dashboard sends nothing but text."""
    read = read_settings(Shop, {**GOOD, "is_test": "true", "days": "7"})

    assert read == Shop(counter="12345678", token="y0_secret", is_test=True, days=7)  # noqa: S106


def test_all_mistakes_are_told_at_once() -> None:
    """Whoever mends one mistake a restart gives up at the fourth."""
    table: dict[str, object] = {
        "conter": 1,
        "counter": "12a",
        "url": "http://a.example",
        "goals": ["a", True],
        "days": 0,
        "mode": "order",
        "headers": {"a": []},
        "is_test": "yes",
    }

    assert mistakes_of(table) == [
        "conter is not a setting; did you mean counter?",
        "counter must look like 12345678",
        "days is wrong: Expected `int` >= 1",
        "goals[1] is wrong: Expected `str`, got `bool`",
        "headers is wrong: Expected `str`, got `array`",
        "is_test is wrong: Expected `bool`, got `str`",
        "mode must be orders or offline: 'order'; did you mean 'orders'?",
        "token is missing: Token, such as env:NAME",
        "url must begin with https://",
    ]


def test_settings_that_refuse_to_be_made_say_why() -> None:
    """A struct may check itself when it is made."""
    assert mistakes_of({"low": 2}, Strict) == ["low must be 1"]


def test_log_shows_no_secret() -> None:
    """Logs are read by more people than the file."""
    settings = Shop(
        counter="1",
        token="y0_secret",  # noqa: S106
        url="https://a.example/b?key=y0_secret",
        headers={"k": "y0_secret"},
    )

    told = masked(settings)
    assert "y0_secret" not in repr(told)
    assert (told["counter"], told["token"], told["url"]) == ("1", "***", "https://a.example/b?***")
    assert told["headers"] == {"k": "***"}


@given(st.dictionaries(st.sampled_from([*Shop.__struct_fields__, "x"]), st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)))  # fmt: skip
def test_any_table_is_read_or_refused(table: dict[str, object]) -> None:
    """It was written by a person, or came from a form."""
    try:
        settings = read_settings(Shop, table)
    except ConfigError:
        return

    assert isinstance(settings, Shop)
