"""The latest refusals are at hand for whoever sets up a site."""

from datetime import UTC, datetime

from closedloop.edge.http.recent import KEPT, Recent

NOW = datetime(2026, 11, 24, tzinfo=UTC)


def test_newest_comes_first_and_the_number_is_bounded() -> None:
    """A page in a loop must not fill the memory."""
    recent = Recent()
    for number in range(KEPT + 5):
        recent.refuse("default", NOW, f"https://{number}.example")

    found = recent.of("default")

    assert (len(found), found[0].origin) == (KEPT, f"https://{KEPT + 4}.example")


def test_sites_are_apart_and_long_names_are_cut() -> None:
    """An owner sees the own pages only."""
    recent = Recent()
    recent.refuse("one", NOW, "x" * 5000)

    assert (len(recent.of("one")[0].origin), recent.of("other")) == (200, [])
