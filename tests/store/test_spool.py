"""The spool keeps what it took, in order, over any end of the process, and says when it takes no more."""

import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from closedloop.errors import OperatorError
from closedloop.store.spool import Spool
from fix_postgres import small_disk

# Keeps one after the other until the disk takes no more, and says how many it took and what stopped it.
FILL = """
import resource, signal, sys
from pathlib import Path
from closedloop.store.spool import Spool

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
spool = Spool(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
taken = 0
try:
    while True:
        spool.keep([b"%d" % taken * 1000])
        taken += 1
except OSError as error:
    print(taken, type(error).__name__, error)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give the place of a spool."""
    return tmp_path / "spool.sqlite3"


@pytest.fixture
def spool(path: Path) -> Iterator[Spool]:
    """Give an empty spool."""
    made = Spool(path)
    yield made
    made.close()


def kept(spool: Spool, limit: int = 100) -> list[bytes]:
    """Return what waits, oldest first."""
    return [one.intake for one in spool.oldest(limit)]


def test_what_was_kept_first_comes_out_first(spool: Spool) -> None:
    """A deal told at ten and corrected at eleven must not be corrected back at noon."""
    spool.keep([b"1", b"2"])
    spool.keep([b"3"])

    assert kept(spool) == [b"1", b"2", b"3"]
    assert kept(spool, 2) == [b"1", b"2"]


def test_place_of_a_removed_one_is_not_given_again(spool: Spool) -> None:
    """Else the next one would be removed in its stead when a drain is told of twice."""
    spool.keep([b"1"])
    [first] = spool.oldest(1)
    spool.remove([first.place])
    spool.keep([b"2"])

    spool.remove([first.place])

    assert kept(spool) == [b"2"]


def test_what_was_kept_is_there_after_a_start(spool: Spool, path: Path) -> None:
    """The process may be killed right after its 2xx; a second one sees it at once, without a goodbye."""
    spool.keep([b"1", b"\0\xff" * 10_000])

    again = Spool(path)

    assert kept(again) == [b"1", b"\0\xff" * 10_000]
    again.close()


def test_every_commit_is_forced_to_the_disk(spool: Spool) -> None:
    """SQLite's default in this journal mode would lose the last commits with the power."""
    assert spool.db.execute("pragma synchronous").fetchone() == (2,)
    assert spool.db.execute("pragma journal_mode").fetchone() == ("wal",)


def test_only_its_owner_may_read_it(spool: Spool, path: Path) -> None:
    """It is sealed, but still nobody else's."""
    spool.keep([b"1"])

    modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in path.parent.iterdir()}
    assert path.name in modes
    assert set(modes.values()) == {0o600}


def test_parked_one_holds_up_nobody_and_is_counted(spool: Spool, path: Path) -> None:
    """What the database refuses for ever waits for a person, with the reason beside it."""
    spool.keep([b"1", b"2", b"3"])
    spool.park(spool.oldest(2)[1].place, "violates a check")

    assert kept(spool) == [b"1", b"3"]
    assert spool.count() == (2, 1)
    with sqlite3.connect(path) as db:
        reasons = db.execute("select parked from spooled where parked is not null").fetchall()
    db.close()
    assert reasons == [("violates a check",)]


def test_batch_is_kept_whole_or_not_at_all(spool: Spool) -> None:
    """Its giver answers all of it or none."""
    with pytest.raises(OSError, match="the spool takes nothing"):
        spool.keep([b"1", None])  # type: ignore[list-item] # pyright: ignore[reportArgumentType]

    assert kept(spool) == []
    spool.keep([b"2"])
    assert kept(spool) == [b"2"]


def test_two_processes_share_one_spool(spool: Spool, path: Path) -> None:
    """`serve --workers 2` has two writers on one file; neither may lose what the other keeps."""
    other = Spool(path)
    spool.keep([b"1"])
    other.keep([b"2"])
    spool.keep([b"3"])

    assert kept(other) == kept(spool) == [b"1", b"2", b"3"]
    other.close()


@settings(max_examples=30)
@given(st.lists(st.lists(st.binary(max_size=50), max_size=4), max_size=6), st.data())
def test_spool_is_a_queue(batches: list[list[bytes]], data: st.DataObject) -> None:
    """Whatever is kept and removed, the rest waits in its order."""
    with tempfile.TemporaryDirectory() as folder:
        spool = Spool(Path(folder) / "spool.sqlite3")
        for batch in batches:
            spool.keep(batch)
        places = [one.place for one in spool.oldest(100)]
        gone = data.draw(st.sets(st.sampled_from(places or [0])))
        spool.remove(sorted(gone))
        left = kept(spool)
        spool.close()

    everything = [intake for batch in batches for intake in batch]
    assert left == [one for place, one in zip(places, everything, strict=True) if place not in gone]


def test_file_that_may_grow_no_more_keeps_what_it_had(path: Path) -> None:
    """Only what was not taken is answered 503; what was answered 2xx before is still there."""
    command = [sys.executable, "-c", FILL, str(path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    spool = Spool(path)
    taken, name, sentence = said.split(maxsplit=2)
    assert (name, sentence[:24]) == ("OSError", "the spool takes nothing:")
    assert int(taken) > 10
    assert kept(spool, 1000) == [b"%d" % number * 1000 for number in range(int(taken))]
    spool.close()


def test_full_disk_keeps_what_it_had_and_takes_again_later(tmp_path: Path) -> None:
    """A disk fills up beside us, and is emptied again, without a start between."""
    with small_disk(tmp_path, 1):
        spool = Spool(tmp_path / "spool.sqlite3")
        spool.keep([b"before"])
        (tmp_path / "ballast").write_bytes(b"x" * (1024 * 1024 - 200_000))
        with pytest.raises(OSError, match="the spool takes nothing"):
            spool.keep([b"x" * 400_000])
        (tmp_path / "ballast").unlink()

        spool.keep([b"after"])

        assert kept(spool) == [b"before", b"after"]
        spool.close()


def test_file_that_is_no_spool_is_told_to_its_owner(path: Path) -> None:
    """A disk that broke must end in a sentence that names the file, not in a trace."""
    path.write_bytes(b"no database at all" * 100)

    with pytest.raises(OperatorError, match=r"spool\.sqlite3"):
        Spool(path)
