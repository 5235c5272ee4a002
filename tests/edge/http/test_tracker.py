"""The script comes small, quickly and from a cache; what is served is what was written."""

import gzip
from pathlib import Path

import brotli  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]
import pytest
from calmjs.parse import es5  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]
from calmjs.parse.unparsers.es5 import minify_print  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

import closedloop
from closedloop.edge.http.tracker import PATH, best_encoding, encode, script
from closedloop.settings import Tracker
from fix_server import Server

SOURCE = Path(closedloop.__file__).parent / "edge" / "http" / "tracker.js"
# 2.0 KB: what a page may be asked to load for it.
MAX_BYTES = 2048


def test_tracker_is_small() -> None:
    """Every visitor of every page pays for each byte."""
    assert len(encode(script(Tracker()))[b"br"].body) <= MAX_BYTES


def test_served_script_is_the_written_one() -> None:
    """A change that was not minified would never reach a page; also says that all of it is ES5."""
    written = minify_print(es5(SOURCE.read_text()), obfuscate=True) + "\n"

    assert SOURCE.with_name("tracker.min.js").read_text() == written, "run scripts/tracker"


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        (b"gzip, deflate, br, zstd", b"br"),
        (b"gzip;q=1.0, br;q=0", b"gzip"),
        (b"GZIP", b"gzip"),
        (b"*", b"br"),
        (b"", b"identity"),
        (b"deflate", b"identity"),
    ],
)
def test_smallest_encoding_that_is_taken(accepted: bytes, encoding: bytes) -> None:
    """Old in-app browsers know no brotli."""
    assert best_encoding(accepted) == encoding


def test_every_encoding_is_the_same_script() -> None:
    """One that went wrong would break the page for one kind of browser only."""
    plain = script(Tracker())
    encoded = encode(plain)

    assert brotli.decompress(encoded[b"br"].body) == plain  # pyright: ignore[reportUnknownMemberType]
    assert gzip.decompress(encoded[b"gzip"].body) == plain
    assert encoded[b"identity"].body == plain
    assert len({one.etag for one in encoded.values()}) == 3


def test_script_is_cached_and_loadable_from_any_page(hook: Server) -> None:
    """Without these headers a strict page refuses it, or asks for it at every click."""
    reply = hook.get(PATH, key=None, headers={"Accept-Encoding": "br"})

    assert reply.status == 200
    assert reply.headers["content-type"] == "text/javascript; charset=utf-8"
    assert reply.headers["cache-control"] == "public, max-age=3600, stale-while-revalidate=86400"
    assert reply.headers["cross-origin-resource-policy"] == "cross-origin"
    assert reply.headers["access-control-allow-origin"] == "*"
    assert reply.headers["vary"] == "accept-encoding"


def test_known_script_is_not_sent_again(hook: Server) -> None:
    """The second page of a visitor loads nothing."""
    etag = hook.get(PATH, key=None, headers={"Accept-Encoding": "br"}).headers["etag"]
    labels = {"Accept-Encoding": "br", "If-None-Match": f'"other", W/{etag}'}

    again = hook.get(PATH, key=None, headers=labels)

    assert (again.status, again.body) == (304, b"")
    assert hook.get(PATH, key=None, headers={**labels, "Accept-Encoding": "gzip"}).status == 200


def test_names_stand_in_the_script() -> None:
    """Behind other names it must call itself and the collector by them."""
    text = script(Tracker(script="s.js", collect="c")).decode()

    assert "s.js" in text
    assert "%" not in text.replace("%7B", "").replace("%7D", "")
