"""An address is checked before the first sale goes there, not after."""

import pytest

from closedloop.deliver.addresses import address_mistake, shown_address


@pytest.mark.parametrize(
    "url",
    [
        "https://shop.example",
        "https://shop.example:8443/a?b=c;d={value}",
        "https://xn--80aswg.xn--p1ai/",
        "https://[2001:db8::1]/",
        "https://[2001:db8::1]:8443/",
    ],
)
def test_good_address_is_taken(url: str) -> None:
    """Owners have all kinds of them."""
    assert address_mistake(url, private=False) is None


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "Latin letters"),
        ("https://shop.example/a b", "Latin letters"),
        ("https://магазин.рф/", "Latin letters"),
        ("https://shop.example/\r\nX: y", "Latin letters"),
        ("shop.example", "begins with https://"),
        ("ftp://shop.example", "begins with https://"),
        ("http://shop.example", "must begin with https://"),
        ("https://user:hunter2@shop.example/", "a name or a password"),
        ("https://{click_id:yclid}.example/", "its host in full"),
        ("https://shop.example{deal_id}/", "its host in full"),
        ("https:///path", "its host in full"),
        ("https://shop.example/#part", "after #"),
        ("https://shop.example:99999/", "a port that does not exist"),
        ("https://shop.example:0/", "a port that does not exist"),
        ("https://[::1/", "its host in full"),
    ],
)
def test_bad_address_is_told_and_not_shown(url: str, problem: str) -> None:
    """A host that a visitor fills in would send sales wherever they like; a password must not be shown."""
    told = address_mistake(url, private=False)

    assert told is not None
    assert problem in told
    assert "hunter2" not in told


def test_private_address_may_go_without_tls() -> None:
    """Within an own network there is often no certificate."""
    assert address_mistake("http://127.0.0.1:8080/hook", private=True) is None


def test_query_is_not_shown_in_logs() -> None:
    """Owners put keys there."""
    assert shown_address("https://shop.example/a?key=hunter2") == "https://shop.example/a?***"
    assert shown_address("https://shop.example/a") == "https://shop.example/a"
