"""What a deployment has without any configuration."""

from zoneinfo import ZoneInfo

import pytest

from closedloop.settings import AmoCrm, Site, Tracker


def test_site_without_configuration_is_a_russian_shop() -> None:
    """Most owners never write a configuration."""
    site = Site()

    assert (site.name, site.currency, site.zone) == ("default", "RUB", ZoneInfo("Europe/Moscow"))
    assert (site.origins, site.dedup_hours) == ((), 24)


def test_tracker_has_the_names_of_the_contract() -> None:
    """Lines that owners have pasted must go on working."""
    assert (Tracker().script, Tracker().collect) == ("tilda-analytics.js", "collect")


@pytest.mark.parametrize(
    ("settings", "accounts"),
    [
        (AmoCrm(), ()),
        (AmoCrm(account_id="30000001"), ("30000001",)),
        (AmoCrm(account_id="5", base_url="https://Alfashop.amocrm.example/"), ("5", "Alfashop")),
        (AmoCrm(base_url="https://12345.kommo.com"), ("12345",)),
        (AmoCrm(base_url="http://127.0.0.1:8080"), ()),
        (AmoCrm(base_url="http://localhost:8080"), ()),
    ],
)
def test_account_is_known_by_id_and_address(settings: AmoCrm, accounts: tuple[str, ...]) -> None:
    """Bodies carry these two; a machine of one's own is no account, or every webhook would be foreign."""
    assert settings.accounts == accounts
