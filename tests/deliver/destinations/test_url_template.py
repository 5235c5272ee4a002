"""Any postback is a few lines of settings: byte for byte what the platform documents, once, or not at all."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given

from closedloop.deliver.destinations.url_template import MEANINGS, UrlTemplate, UrlTemplateSettings
from closedloop.domain.delivery import Outcome, Sale, Skipped
from closedloop.domain.exchange import HttpReply, HttpRequest
from fix_destinations import NOW, SALES, batch, sale, told
from fix_tools import REPOSITORY

TEMPLATE = UrlTemplate()
URL = "https://cpa.example/postback"
# docs/protocols/destinations/vk-ads.md, 1: semicolons, a whole value, the slash as it is.
VK = UrlTemplateSettings(
    url="https://top-fwz1.mail.ru/tracker?id=3512345;e=RG%3A{value_int}/{goal};rb_clickid={click_id:rb_clickid}",
    only_goals=("payment_success",),
    window_days=30,
)
CPA = UrlTemplateSettings(
    url=f"{URL}?click_id={{click_id:gclid}}&order={{order_id}}&sum={{value}}&cur={{currency}}&status={{event}}",
    when="cancellations",
    events={"created": "pending", "changed": "pending", "cancelled": "declined", "reinstated": "pending"},
    repeat_lost_answer=True,
)
JSON_POST = UrlTemplateSettings(
    url=f"{URL}?at={{unix_time}}",
    method="POST",
    headers={"Authorization": "Bearer {token}"},
    body='{"order": "{order_id}", "goal": "{goal}", "sum": {value}, "id": "{ym_uid}"}',
    token="hunter2",  # noqa: S106
)


def settings(**more: Any) -> UrlTemplateSettings:  # noqa: ANN401 - any field
    """Return settings with an address."""
    told: dict[str, Any] = {"url": URL, **more}
    return UrlTemplateSettings(**told)


def encoded(one: Sale, of: UrlTemplateSettings) -> HttpRequest:
    """Return the request for one sale."""
    return TEMPLATE.encode(batch(one), of, NOW)


def outcome(status: int, of: UrlTemplateSettings, body: bytes = b"", **headers: str) -> Outcome:
    """Return what an answer means."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    [verdict] = TEMPLATE.decode(batch(), HttpReply(status=status, headers=named, body=body), of)
    return verdict.outcome


def mistakes(**more: Any) -> list[tuple[str, str]]:  # noqa: ANN401 - any field
    """Return what is wrong with settings."""
    return list(settings(**more).mistakes())


def test_goal_of_vk_ads_is_as_documented() -> None:
    """A semicolon that is escaped, or a slash, and VK counts nothing and says nothing."""
    one = sale(ids={"rb_clickid": "qIbN9mNS7xWc"})

    assert TEMPLATE.compile(one, VK) == one
    assert encoded(one, VK) == HttpRequest(
        method="GET",
        url="https://top-fwz1.mail.ru/tracker?id=3512345;e=RG%3A12001/payment_success;rb_clickid=qIbN9mNS7xWc",
    )
    assert list(VK.mistakes()) == []


def test_vk_ads_is_told_once_and_never_repeated() -> None:
    """It knows no duplicates: a second call is a second sale."""
    terms = TEMPLATE.terms(VK)

    assert (terms.repeat_lost_answer, terms.window, terms.counts_from) == (False, timedelta(days=30), "visit")
    assert outcome(200, VK, b"GIF89a") == Outcome.ACCEPTED_UNVERIFIABLE
    assert outcome(502, VK, b"<html>") == Outcome.UNKNOWN_OUTCOME
    assert isinstance(
        TEMPLATE.compile(sale(ids={"rb_clickid": "x"}, told=told(value=Decimal(1))), VK), Skipped
    )


@pytest.mark.parametrize(
    ("one", "query"),
    [
        (sale(), "order=662&sum=12000.50&cur=RUB&status=pending"),
        (sale(told=told(), is_cancelled=True), "order=662&sum=12000.50&cur=RUB&status=declined"),
        (
            sale(deal_id="662/а&b", value=Decimal(5000)),  # noqa: RUF001
            "order=662%2F%D0%B0%26b&sum=5000&cur=RUB&status=pending",
        ),
    ],
)
def test_postback_of_a_cpa_network_follows_the_deal(one: Sale, query: str) -> None:
    """A commission is paid for what was paid, and taken back when the deal is."""
    with_click = msgspec.structs.replace(one, ids={"gclid": "Cj0KC_-Q"})

    assert TEMPLATE.compile(with_click, CPA) == with_click
    assert encoded(with_click, CPA).url == f"{URL}?click_id=Cj0KC_-Q&{query}"


def test_body_and_headers_are_filled_in() -> None:
    """Newer networks want JSON and a key."""
    request = encoded(sale(goal='a"b', ids={"ym_uid": "1741000000123456789"}), JSON_POST)

    assert request == HttpRequest(
        method="POST",
        url=f"{URL}?at=1795514400",
        headers=(("Authorization", "Bearer hunter2"), ("Content-Type", "application/json")),
        body=rb'{"order": "662", "goal": "a\"b", "sum": 12000.50, "id": "1741000000123456789"}',
    )
    assert list(JSON_POST.mistakes()) == []


@pytest.mark.parametrize(
    ("more", "label"),
    [
        ({"body_type": "form"}, "application/x-www-form-urlencoded"),
        ({"body_type": "xml"}, "application/xml; charset=utf-8"),
        ({"body_type": "text"}, "text/plain; charset=utf-8"),
        ({"body_type": "text", "headers": {"content-type": "text/csv"}}, "text/csv"),
    ],
)
def test_body_is_labelled_as_what_it_is(more: dict[str, Any], label: str) -> None:
    """Receivers read the label first; the owner's own goes before ours."""
    request = encoded(sale(), settings(method="POST", body="a={value}", **more))

    assert [value for name, value in request.headers if name.lower() == "content-type"] == [label]
    assert request.body == b"a=12000.50"


def test_sale_without_a_wanted_value_is_skipped_with_the_reason() -> None:
    """A postback for nobody's click is refused at best, and counted for somebody at worst."""
    of = settings(url=f"{URL}?c={{click_id:rb_clickid}}&d={{deal_id}}&v={{value}}")

    assert TEMPLATE.compile(sale(deal_id=None), of) == Skipped(reason="it has no rb_clickid and no deal_id")


def test_goal_outside_the_list_is_skipped() -> None:
    """VK has a goal of another name for it."""
    assert isinstance(TEMPLATE.compile(sale(goal="lead", ids={"rb_clickid": "x"}), VK), Skipped)


@pytest.mark.parametrize(
    ("when", "passes"),
    [("first", [1, 0, 0, 0]), ("changes", [1, 1, 0, 1]), ("cancellations", [1, 1, 1, 1])],
)
def test_when_says_which_states_are_told(when: str, passes: list[int]) -> None:
    """Most platforms have no cancellation, and count a changed value as another sale."""
    states = [
        sale(),
        sale(told=told(value=Decimal(1))),
        sale(told=told(), is_cancelled=True),
        sale(told=told(is_cancelled=True)),
    ]

    assert [isinstance(TEMPLATE.compile(one, settings(when=when)), Sale) for one in states] == passes


def test_nothing_new_is_not_told() -> None:
    """Nor is what was cancelled before anybody heard of it."""
    of = settings(when="cancellations")

    assert isinstance(TEMPLATE.compile(sale(told=told()), of), Skipped)
    assert isinstance(TEMPLATE.compile(sale(is_cancelled=True), of), Skipped)


@pytest.mark.parametrize(
    ("status", "meaning"),
    [
        (0, Outcome.UNKNOWN_OUTCOME),
        (100, Outcome.UNKNOWN_OUTCOME),
        (200, Outcome.ACCEPTED_UNVERIFIABLE),
        (204, Outcome.ACCEPTED_UNVERIFIABLE),
        (302, Outcome.CONFIG_BLOCKED),
        (400, Outcome.REJECT_RECORD),
        (401, Outcome.AUTH_BLOCKED),
        (403, Outcome.AUTH_BLOCKED),
        (404, Outcome.REJECT_RECORD),
        (408, Outcome.UNKNOWN_OUTCOME),
        (410, Outcome.CONFIG_BLOCKED),
        (429, Outcome.THROTTLED),
        (500, Outcome.UNKNOWN_OUTCOME),
        (503, Outcome.UNKNOWN_OUTCOME),
        (504, Outcome.UNKNOWN_OUTCOME),
    ],
)
def test_answer_usually_means_this(status: int, meaning: Outcome) -> None:
    """After 5xx nobody knows whether it was counted, so it must not count as not counted."""
    assert outcome(status, settings()) == meaning


def test_call_that_never_left_is_repeated() -> None:
    """Nothing was counted."""
    [verdict] = TEMPLATE.decode(batch(), HttpReply(status=0, sent=False), settings())

    assert verdict.outcome == Outcome.RETRY_LATER


def test_platform_that_wants_peace_has_it() -> None:
    """It says itself that it did not take the call."""
    assert outcome(503, settings(), retry_after="120") == Outcome.THROTTLED


def test_owner_says_what_an_answer_means() -> None:
    """No two networks agree; the exact status goes before its class."""
    of = settings(answers={"4xx": "retry_later", "409": "duplicate_ok", "302": "accepted_unverifiable"})

    meanings = [outcome(status, of) for status in (409, 404, 302, 301)]
    assert meanings == ["duplicate_ok", "retry_later", "accepted_unverifiable", "config_blocked"]


@pytest.mark.parametrize(
    ("body", "headers", "meaning"),
    [
        (b'{"status": "OK"}', {}, Outcome.CONFIRMED),
        (b'{"status": "unknown click"}', {}, Outcome.REJECT_RECORD),
        (b"<html>Welcome to our Wi-Fi</html>", {}, Outcome.UNKNOWN_OUTCOME),
        (b"Blocked", {"content_type": "text/html"}, Outcome.UNKNOWN_OUTCOME),
    ],
)
def test_success_is_what_the_body_says(body: bytes, headers: dict[str, str], meaning: Outcome) -> None:
    """Many networks answer 200 to everything, and so do the proxies on the way."""
    assert outcome(200, settings(success_text='"OK"'), body, **headers) == meaning


def test_success_may_mean_less_than_confirmed() -> None:
    """The owner knows better what an OK is worth."""
    of = settings(success_text="OK", answers={"2xx": "accepted_unverifiable"})

    assert outcome(200, of, b"OK") == Outcome.ACCEPTED_UNVERIFIABLE
    assert outcome(500, of, b"OK") == Outcome.UNKNOWN_OUTCOME


def test_token_is_in_no_reason() -> None:
    """Platforms print the address that they did not like."""
    reply = HttpReply(status=400, body=b"bad request: /postback?token=hunter2")

    [verdict] = TEMPLATE.decode(batch(), reply, JSON_POST)
    assert verdict.reason == "HTTP 400: bad request: /postback?token=***"


@pytest.mark.parametrize(
    ("more", "key", "problem"),
    [
        ({"url": "http://cpa.example"}, "url", "must begin with https://: sales do not travel in the open"),
        (
            {"url": "https://{goal}.example"},
            "url",
            "must name its host in full, without anything that is filled in",
        ),
        ({"url": f"{URL}?v={{valeu}}"}, "url", "has an unknown macro {valeu}; did you mean 'value'?"),
        (
            {"url": f"{URL}?v=1&access_token=abc"},
            "url",
            "holds a secret in the file; write {token} and set token",
        ),
        (
            {"headers": {"X-Api-Key": "abc"}},
            "headers.X-Api-Key",
            "holds a secret in the file; write {token} and set token",
        ),
        ({"headers": {"A b": "c"}}, "headers.A b", "is no header that may be set"),
        ({"headers": {"Host": "c"}}, "headers.Host", "is no header that may be set"),
        ({"headers": {"X-A": "b\r\nc"}}, "headers.X-A", "must be Latin letters in one line"),
        ({"headers": {"X-A": "{q}"}}, "headers.X-A", "has an unknown macro {q}; known are: "),
        ({"body": "{value}"}, "body", 'needs method = "POST" or "PUT"'),
        ({"body": '{"a": {goal}}', "method": "POST"}, "body", "is not JSON once it is filled in"),
        ({"url": f"{URL}?t={{token}}"}, "token", "is missing: {token} stands for it"),
        ({"token": "abc"}, "token", "is not used: write {token} where it belongs"),
        ({"url": f"{URL}?t={{token}}", "token": "a\nb"}, "token", "must be Latin letters in one line"),
        (
            {"events": {"create": "a"}},
            "events.create",
            "is none of created, changed, cancelled, reinstated; did",
        ),
        ({"answers": {"4x": "confirmed"}}, "answers.4x", "must be for a status such as 409"),
        ({"answers": {"404": "confirm"}}, "answers.404", "must be one of "),
        ({"answers": {"404": "accepted_pending"}}, "answers.404", "must be one of "),
    ],
)
def test_mistake_is_told_by_its_key(more: dict[str, Any], key: str, problem: str) -> None:
    """A postback that is wrong is wrong for every sale."""
    [(told_key, told_problem)] = mistakes(**more)

    assert told_key == key
    assert told_problem.startswith(problem)
    assert "abc" not in told_problem


def test_every_outcome_but_a_question_may_be_said() -> None:
    """Nobody can be asked behind a postback."""
    assert set(Outcome) - set(MEANINGS) == {Outcome.ACCEPTED_PENDING, Outcome.PARTIAL, Outcome.REAUTH}
    assert mistakes(answers=dict.fromkeys(("200",), MEANINGS[0])) == []


def test_guide_names_every_setting() -> None:
    """A setting that nobody knows of is not there."""
    guide = (REPOSITORY / "docs" / "ru" / "postback.md").read_text(encoding="utf-8")

    assert [name for name in UrlTemplateSettings.__struct_fields__ if f"`{name}`" not in guide] == []
    assert [meaning for meaning in MEANINGS if f"`{meaning}`" not in guide] == []


@given(SALES)
def test_any_sale_is_skipped_or_one_good_call(one: Sale) -> None:
    """What comes from a CRM and a browser is not ours."""
    for of in (VK, CPA, JSON_POST):
        compiled = TEMPLATE.compile(one, of)
        if isinstance(compiled, Skipped):
            assert compiled.reason
            continue
        request = encoded(compiled, of)
        assert request.url.isascii()
        assert request.url.isprintable()
        assert " " not in request.url
        assert not request.body or msgspec.json.decode(request.body)["order"] == one.order_id
