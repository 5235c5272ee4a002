"""How much one address may send: a bucket for each, so that a flood is stopped without touching others."""

import functools
import ipaddress
from collections import OrderedDict
from collections.abc import Iterable

# A page view sends some four hits; behind one address of a mobile operator are many visitors.
RATE_PER_S = 20.0
BURST = 400.0
MAX_ADDRESSES = 65_536


class Floods:
    """Counts by address, in memory of bounded size; the address itself is never stored or logged."""

    def __init__(self, rate_per_s: float = RATE_PER_S, burst: float = BURST) -> None:
        self.rate_per_s = rate_per_s
        self.burst = burst
        self.buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def admit(self, address: str | None, now_s: float) -> bool:
        """Return whether this address may send one more; one that nobody can name, None, always may."""
        if address is None:
            return True
        left, at = self.buckets.pop(address, (self.burst, now_s))
        left = min(self.burst, left + (now_s - at) * self.rate_per_s)
        admitted = left >= 1
        self.buckets[address] = (left - 1 if admitted else left, now_s)
        if len(self.buckets) > MAX_ADDRESSES:
            self.buckets.popitem(last=False)
        return admitted


def client_address(peer: str | None, forwarded: Iterable[str]) -> str | None:
    """Return whom a request comes from: an IPv4 address, or the /64 of an IPv6 one; None when unknown.

    `forwarded` are the values of X-Forwarded-For, believed only when the peer is a proxy of our own: an
    address of this machine or of a private network. Then the last public address counts, since whatever
    stands before it the sender has written. A private address is a proxy, not a visitor.
    """
    found = bucket(peer)
    if found is not None or peer is None:
        return found
    hops = [hop.strip() for value in forwarded for hop in value.split(",")]
    return next((known for hop in reversed(hops) if (known := bucket(hop)) is not None), None)


@functools.lru_cache(maxsize=1024)
def bucket(text: str | None) -> str | None:
    """Return the name of the bucket of a public address, None for any other text."""
    try:
        address = ipaddress.ip_address((text or "").strip("[]"))
    except ValueError:
        return None
    if address.is_private or address.is_loopback or address.is_link_local:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.ip_network((address, 64), strict=False).network_address)
