"""What a deployment has without any configuration."""

from zoneinfo import ZoneInfo

from closedloop.settings import Site, Tracker


def test_site_without_configuration_is_a_russian_shop() -> None:
    """Most owners never write a configuration."""
    site = Site()

    assert (site.name, site.currency, site.zone) == ("default", "RUB", ZoneInfo("Europe/Moscow"))
    assert (site.origins, site.dedup_hours) == ((), 24)


def test_tracker_has_the_names_of_the_contract() -> None:
    """Lines that owners have pasted must go on working."""
    assert (Tracker().script, Tracker().collect) == ("tilda-analytics.js", "collect")
