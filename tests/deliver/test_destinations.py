"""What holds for every destination: a new one finds here, by name, each part that it still lacks."""

import re
from collections.abc import Sequence
from datetime import timedelta
from urllib.parse import unquote, urlsplit

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from closedloop.deliver.base import Batch, Destination
from closedloop.deliver.fields import fields_of
from closedloop.deliver.registry import DESTINATIONS
from closedloop.domain.delivery import Sale, Skipped, Terms, Verdict
from closedloop.domain.exchange import HttpReply
from closedloop.domain.ids import CLICK_IDS
from fix_destinations import EMAIL, IDS, NOW, PHONE, SALES, batch, fullest, sale, smallest
from fix_tools import REPOSITORY

# A setting with one of these in its name is a secret, or its author has to find another name.
SECRET_NAMES = re.compile(r"token|secret|password|api_?key")
# Destinations that send a contact in the clear because the platform hashes it itself, each with the reason.
CLEAR_CONTACTS: dict[str, str] = {}

RICH = sale(
    ids={**dict.fromkeys(IDS, "1741000000123456789"), **dict.fromkeys(CLICK_IDS, "Cj0KC_-Q")},
    phones=[PHONE],
    emails=[EMAIL],
    occurred_at=NOW - timedelta(hours=1),
    deal_created_at=NOW - timedelta(days=1),
    match="session_id",
)
BODIES = (
    b"",
    b"<html><head><title>502 Bad Gateway</title></head><body><hr>nginx</body></html>",
    b'{"uploading": {"id": 1, "status": "UPLOADED", "err',
    b"[]",
    b"null",
    b'"text"',
    b"{}",
    b"\xff\xfe\x00\x80",
)
"""Empty, a proxy's page, half a JSON, JSON of another shape, no text at all."""

each = pytest.mark.parametrize("destination", DESTINATIONS.values(), ids=DESTINATIONS)
all_names = st.sampled_from(sorted(DESTINATIONS))


def ways(destination: Destination) -> list[msgspec.Struct]:
    """Return settings with no more than is needed, and with all that there is."""
    return [smallest(destination.name), fullest(destination.name)]


def batch_for(destination: Destination, settings: msgspec.Struct, one: Sale = RICH) -> Batch | None:
    """Return a batch as full as this destination takes, up to two; None when the sale is not for it."""
    count = min(destination.terms(settings).max_rows, 2)
    sales = [msgspec.structs.replace(one, deal_id=f"{one.order_id}{at or ''}") for at in range(count)]
    compiled = [destination.compile(each_one, settings) for each_one in sales]
    kept = [each_one for each_one in compiled if isinstance(each_one, Sale)]
    return batch(*kept) if len(kept) == count else None


def full_batch(destination: Destination, settings: msgspec.Struct) -> Batch:
    """Return a batch of sales that have everything."""
    found = batch_for(destination, settings)
    assert found is not None, f"{destination.name} skips a sale that has every id and both contacts"
    return found


def wrong_terms(terms: Terms) -> list[str]:
    """Return what no engine could keep."""
    zero, window = timedelta(), terms.window
    rules = {
        "window is not positive": window is None or window > zero,
        "margin is not within the window": zero <= terms.margin and (window is None or terms.margin < window),
        "hold is not within the window": zero <= terms.hold and (window is None or terms.hold < window),
        "gather is negative": terms.gather >= zero,
        "max_rows, max_bytes, at_once or attempts is below 1": min(
            terms.max_rows, terms.max_bytes, terms.at_once, terms.attempts
        )
        >= 1,
        "verdict_after does not grow": list(terms.verdict_after) == sorted(set(terms.verdict_after)),
    }
    return [problem for problem, holds in rules.items() if not holds]


def module_of(destination: Destination) -> str:
    """Return the name of its file, without the ending."""
    return type(destination).__module__.rpartition(".")[2]


@each
def test_destination_is_registered_under_its_own_name(destination: Destination) -> None:
    """The name stands in files of owners and in the ledger."""
    assert DESTINATIONS[destination.name] is destination
    assert re.fullmatch(r"[a-z0-9]+(?:-[a-z0-9]+)*", destination.name)


@each
def test_every_setting_says_what_it_is(destination: Destination) -> None:
    """The check, the form, the masks of logs and the reference are all made from it."""
    missing = [
        f"{destination.name}.{field.name} lacks its {part}"
        for field in fields_of(destination.settings)
        for part, there in {
            "title": field.title,
            "help": field.help,
            "example": field.examples,
            "word on secrecy": field.is_secret is not None,
        }.items()
        if not there
    ]

    assert missing == []


@each
def test_setting_that_sounds_secret_is_one(destination: Destination) -> None:
    """One that is forgotten stands in the file, and in every log."""
    fields = fields_of(destination.settings)

    told = [field.name for field in fields if SECRET_NAMES.search(field.name) and not field.is_secret]
    assert told == []
    assert not {field.name for field in fields} & {"name", "type"}, "these two are the engine's"


@each
def test_examples_are_good_settings(destination: Destination) -> None:
    """They are what an owner copies."""
    assert all(isinstance(settings, destination.settings) for settings in ways(destination))


@each
def test_terms_can_be_kept(destination: Destination) -> None:
    """The engine knows nothing else of a platform."""
    assert [wrong_terms(destination.terms(settings)) for settings in ways(destination)] == [[], []]


@each
def test_verdict_can_be_asked_for_where_it_is_promised(destination: Destination) -> None:
    """A batch would stay pending for ever."""
    for settings in ways(destination):
        question = destination.ask(full_batch(destination, settings), "1", settings)

        assert bool(destination.terms(settings).verdict_after) == (question is not None)


@each
def test_same_batch_is_the_same_request(destination: Destination) -> None:
    """A try after a crash must be the one before it; only what belongs to the instant may move."""
    for settings in ways(destination):
        one = full_batch(destination, settings)
        first, again = destination.encode(one, settings, NOW), destination.encode(one, settings, NOW)
        later = destination.encode(one, settings, NOW + timedelta(hours=5))

        assert first == again
        assert (first.method, first.url, first.body) == (later.method, later.url, later.body)
        assert urlsplit(first.url).scheme == "https"


@each
def test_batch_that_was_stored_is_the_same_request(destination: Destination) -> None:
    """It is read back after a crash, and maps come back as maps, tuples as lists."""
    for settings in ways(destination):
        one = full_batch(destination, settings)
        stored = msgspec.msgpack.decode(msgspec.msgpack.encode(one), type=Batch)

        assert destination.encode(stored, settings, NOW) == destination.encode(one, settings, NOW)


@each
def test_contacts_leave_only_hashed(destination: Destination) -> None:
    """Phones and e-mails of clients are in nobody's log on the way."""
    clear = [PHONE, PHONE.removeprefix("+"), PHONE[2:], EMAIL]

    for settings in ways(destination):
        request = destination.encode(full_batch(destination, settings), settings, NOW)
        sent = [request.url, unquote(request.url), *(value for _, value in request.headers)]
        sent.append(request.body.decode("utf-8", "replace"))
        found = [contact for contact in clear if any(contact in text.lower() for text in sent)]

        assert not found or destination.name in CLEAR_CONTACTS, f"{destination.name} sends {found}"


def verdicts_of(destination: Destination, reply: HttpReply) -> list[tuple[Batch, Sequence[Verdict]]]:
    """Return what a reply says by all that read one, with the batch that was sent."""
    found: list[tuple[Batch, Sequence[Verdict]]] = []
    for settings in ways(destination):
        one = full_batch(destination, settings)
        found += [
            (one, destination.decode(one, reply, settings)),
            (one, destination.learn(one, "1", reply, settings)),
            (one, destination.learn(one, "", reply, settings)),
            (Batch(batch_id="", sales=one.sales[:1]), [destination.judge(reply, settings)]),
        ]
    return found


def no_verdicts(destination: Destination, reply: HttpReply) -> bool:
    """Return whether some reading of a reply has not one verdict for each sale."""
    return any(len(told) != len(one.sales) for one, told in verdicts_of(destination, reply))


@each
def test_every_status_has_a_verdict_for_each_sale(destination: Destination) -> None:
    """Whatever a platform, a proxy or a broken connection says, no sale may be forgotten."""
    wrong = [
        (status, body[:20])
        for status in (0, *range(100, 600))
        for body in BODIES
        if no_verdicts(destination, HttpReply(status=status, body=body))
    ]

    assert wrong == []


@given(
    all_names,
    st.sampled_from([0, 200, 201, 202, 204, 400, 420, 429, 500, 503]),
    st.binary(max_size=200) | st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(st.characters(codec="utf-8")),
        lambda inner: st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["uploading", "uploadings", "id", "status", "errors"]), inner),
    ).map(msgspec.json.encode),
    st.dictionaries(st.sampled_from(["retry-after", "date", "content-type"]), st.text(max_size=30)),
    st.booleans(),
)  # fmt: skip
def test_no_answer_breaks_a_destination(
    name: str,
    status: int,
    body: bytes,
    headers: dict[str, str],
    sent: bool,  # noqa: FBT001
) -> None:
    """It comes from outside; one exception stops the queue."""
    reply = HttpReply(status=status, headers=headers, body=body, sent=sent)

    for one, told in verdicts_of(DESTINATIONS[name], reply):
        assert len(told) == len(one.sales)
        assert all(verdict.wait_s is None or verdict.wait_s >= 0 for verdict in told)


@given(all_names, SALES)
def test_any_sale_is_sent_or_skipped_with_a_reason(name: str, one: Sale) -> None:
    """The reason is what an owner reads on the page that says why."""
    destination = DESTINATIONS[name]

    for settings in ways(destination):
        compiled = destination.compile(one, settings)
        if isinstance(compiled, Skipped):
            assert compiled.reason
            continue
        request = destination.encode(batch(compiled), settings, NOW)
        assert re.fullmatch(r"https://[!-~]+", request.url)
        assert all(re.fullmatch(r"[ -~]+: [ -~]*", f"{key}: {value}") for key, value in request.headers)


@each
def test_destination_has_a_test_file_of_its_own(destination: Destination) -> None:
    """What its platform really says is known there only."""
    assert (REPOSITORY / "tests" / "deliver" / "destinations" / f"test_{module_of(destination)}.py").is_file()


@each
def test_destination_has_a_guide_in_russian(destination: Destination) -> None:
    """Owners are marketers, and copy what stands there."""
    guides = [path.read_text(encoding="utf-8") for path in (REPOSITORY / "docs" / "ru").glob("*.md")]

    assert any(f'type = "{destination.name}"' in guide for guide in guides), "no docs/ru/*.md sets it up"
