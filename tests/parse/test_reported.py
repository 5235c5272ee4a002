"""One conversion in the hook's own keys is read alike, whichever sender told it."""

from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from closedloop.errors import CallerError
from closedloop.parse.reported import Fallback, identifiers_of, read_reported, request_digest

NOTHING_ELSE = Fallback(zone=ZoneInfo("Europe/Moscow"), now=datetime(2026, 1, 1, tzinfo=UTC))
OTHERWISE = Fallback(deal_id="662", event_id="e1", zone=NOTHING_ELSE.zone, now=NOTHING_ELSE.now)


def test_fields_win_over_what_counts_otherwise() -> None:
    """The owner's own word is nearer to the deal than what surrounds it."""
    bare = read_reported({"session_id": "s"}, OTHERWISE, b"")
    told = read_reported({"deal_id": "7", "event_id": "e2"}, OTHERWISE, b"")

    assert (bare.deal_id, bare.event_id) == ("662", "e1")
    assert (told.deal_id, told.event_id) == ("7", "e2")


def test_currency_and_date_are_read_as_people_write_them() -> None:
    """A robot prints a sum with its currency, and a date without a zone."""
    fields = {"goal_value": "5 000|RUB", "occurred_at": "08.03.2025 15:20:00"}

    told = read_reported(fields, NOTHING_ELSE, b"d")

    assert (told.value, told.currency) == (Decimal(5000), "RUB")
    assert (told.goal, told.digest) == ("crm_conversion", b"d")
    assert told.occurred_at == datetime(2025, 3, 8, 12, 20, tzinfo=UTC)


@pytest.mark.parametrize("key", ["ym_uid", "goal_value", "currency", "occurred_at"])
def test_bad_field_is_refused_by_its_key(key: str) -> None:
    """Readers of several senders drop or show the field by this name."""
    with pytest.raises(CallerError) as caught:
        read_reported({key: "nonsense"}, NOTHING_ELSE, b"")

    assert caught.value.key == key


def test_identifiers_are_listed_by_certainty() -> None:
    """The first that answers is the match."""
    fields = {
        "email": "Anna@mail.example", "phone": "8 900 000-00-01", "yclid": "1", "ta_code": "ta_0123456789ab",
        "ym_uid": "17", "session_id": "s", "goal_name": "g", "deal_id": "7",
    }  # fmt: skip

    found = identifiers_of(read_reported(fields, NOTHING_ELSE, b""))

    assert list(found.items()) == [
        ("session_id", "s"),
        ("ym_uid", "17"),
        ("yclid", "1"),
        ("ta_code", "ta_0123456789ab"),
        ("phone", "+79000000001"),
        ("email", "anna@mail.example"),
    ]


def test_nobody_is_identified_by_nothing() -> None:
    """A deal's number alone leads to no visitor."""
    assert identifiers_of(read_reported({"deal_id": "7"}, NOTHING_ELSE, b"")) == {}


def test_digest_changes_with_body_query_and_place() -> None:
    """Otherwise two sales would be one."""
    digests = {
        request_digest(*told) for told in [(b"a", b"b", 0), (b"ab", b"", 0), (b"", b"ab", 0), (b"a", b"b", 1)]
    }

    assert len(digests) == 4
    assert request_digest(b"a", b"b") == request_digest(b"a", b"b", 0)
