"""A flood from one address is stopped; nobody else notices it."""

import pytest

from closedloop.edge.http.floods import MAX_ADDRESSES, Floods, bucket, client_address


def test_burst_passes_and_a_flood_does_not() -> None:
    """A page with many views in a minute is a visitor; a thousand hits in a second are not."""
    floods = Floods(rate_per_s=2, burst=5)

    admitted = [floods.admit("203.0.113.1", 0.0) for _ in range(7)]

    assert admitted == [True] * 5 + [False] * 2
    assert floods.admit("203.0.113.2", 0.0)
    assert [floods.admit("203.0.113.1", 1.0) for _ in range(3)] == [True, True, False]


def test_unknown_address_is_never_stopped() -> None:
    """Behind a proxy that names nobody all visitors are one address."""
    floods = Floods(rate_per_s=0, burst=0)

    assert floods.admit(None, 0.0)


def test_memory_is_bounded() -> None:
    """A flood from a million addresses must not fill the memory."""
    floods = Floods()
    for number in range(MAX_ADDRESSES + 10):
        floods.admit(str(number), 0.0)

    assert len(floods.buckets) == MAX_ADDRESSES
    assert "0" not in floods.buckets


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("203.0.113.1", [], None),
        ("8.8.8.8", [], "8.8.8.8"),
        ("8.8.8.8", ["1.1.1.1"], "8.8.8.8"),
        ("127.0.0.1", ["1.1.1.1"], "1.1.1.1"),
        ("10.0.0.2", ["9.9.9.9, 1.1.1.1, 10.0.0.3"], "1.1.1.1"),
        ("127.0.0.1", ["9.9.9.9", "1.1.1.1"], "1.1.1.1"),
        ("127.0.0.1", ["unknown"], None),
        ("127.0.0.1", [], None),
        ("::1", ["2a02:6b8::1:2:3:4"], "2a02:6b8::"),
        (None, ["1.1.1.1"], None),
        ("garbage", ["1.1.1.1"], "1.1.1.1"),
    ],
)
def test_only_our_own_proxy_is_believed(peer: str | None, forwarded: list[str], address: str | None) -> None:
    """Else one flooder would write another address into each request."""
    assert client_address(peer, forwarded) == address


def test_network_of_a_visitor_is_one_bucket() -> None:
    """An IPv6 customer has more addresses than our memory has entries."""
    assert bucket("2a02:6b8:0:1::1") == bucket("[2a02:6b8:0:1:ffff::2]")
