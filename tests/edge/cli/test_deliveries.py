"""`deliveries` shows what waits in the words of the vocabulary; its data are tested with `why`."""

from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from closedloop.edge.cli.deliveries import show
from closedloop.store.story import ListedDelivery

AT = datetime(2026, 11, 24, 21, tzinfo=UTC)


def test_list_is_in_the_sites_time_and_with_exact_sums(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """People compare it with their own clock."""
    monkeypatch.setenv("COLUMNS", "250")
    one = ListedDelivery(
        destination="metrica",
        state="parked",
        outcome="reject_record",
        reason="no such goal",
        due_at=AT,
        deadline=None,
        attempt=3,
        changed_at=AT,
        deal_id="662",
        goal="payment_success",
        value=Decimal(5000),
        currency="RUB",
    )

    show([one], ZoneInfo("Europe/Moscow"))

    printed = capsys.readouterr().out
    for part in ("5000 RUB", "parked", "metrica", "2026-11-25 00:00:00", "no such goal"):
        assert part in printed
