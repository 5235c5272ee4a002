"""Addresses to which an owner lets us send: what is wrong with one, before anything is sent."""

import re
from urllib.parse import urlsplit

_PRINTABLE = re.compile(r"[!-~]+")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]")
_MAX_PORT = 65535


def address_mistake(url: str, *, private: bool) -> str | None:
    """Return what is wrong with `"https://shop.example/hook?x=1"`, None when nothing is; never shows it.

    `private` allows http as well: within an own network there is often no certificate.
    """
    scheme, separator, rest = url.partition("://")
    place = re.split(r"[/?#]", rest, maxsplit=1)[0]
    host = place.rpartition(":")[0] if re.search(r":[0-9]*\Z", place) else place
    checks = (
        (_PRINTABLE.fullmatch(url), "must be in Latin letters without blanks (a Cyrillic host as xn--…)"),
        (separator and scheme in ("https", "http"), "must be an address that begins with https://"),
        (private or scheme == "https", "must begin with https://: sales do not travel in the open"),
        ("@" not in place, "must not hold a name or a password"),
        (_HOST.fullmatch(host), "must name its host in full, without anything that is filled in"),
        ("#" not in url, "must not have a part after #: it is never sent"),
        (_has_good_port(url), "has a port that does not exist"),
    )
    return next((problem for holds, problem in checks if not holds), None)


def shown_address(url: str) -> str:
    """Return an address for logs: a key may stand in its query."""
    base, mark, _ = url.partition("?")
    return f"{base}{mark}***" if mark else base


def _has_good_port(url: str) -> bool:
    try:
        port = urlsplit(url).port
    except ValueError:
        return False
    return port is None or 0 < port <= _MAX_PORT
