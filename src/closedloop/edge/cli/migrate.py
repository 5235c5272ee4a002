"""`closedloop migrate`: our own schema brought up to date, or written as files for `supabase db push`."""

import json
import sys
from pathlib import Path

import msgspec
import psycopg

from closedloop.edge.cli.database import database_of
from closedloop.errors import NotAdoptedError
from closedloop.stages import clock
from closedloop.store.database import translated
from closedloop.store.migrate import export, migrate
from closedloop.store.sessions import read_session_table_now

ADOPT = "public.user_analytics is yours and not adopted yet; next: closedloop adopt"


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What `migrate` is asked for."""

    config: Path | None = None
    data_dir: Path | None = None
    folder: Path | None = None  # write files here and touch no database
    as_json: bool = False


def run(wanted: Wanted) -> int:
    """Apply or export and say what was done; the exit code is 0 when nothing was left to do, too."""
    if wanted.folder is not None:
        written = [str(path) for path in export(wanted.folder)]
        say(wanted, {"written": written}, [f"written   {path}" for path in written])
        return 0
    with database_of(wanted.config, wanted.data_dir) as (_, conninfo):
        applied = [f"{one.version}_{one.name}" for one in migrate(conninfo, clock.now())]
        adopted = is_adopted(conninfo)
    lines = [f"applied   {name}" for name in applied] or ["nothing to do: every migration is applied"]
    say(wanted, {"applied": applied, "adopted": adopted}, lines if adopted else [*lines, ADOPT])
    return 0


def is_adopted(conninfo: str) -> bool:
    """Return whether the server can work with public.user_analytics as it is."""
    with translated(), psycopg.connect(conninfo, prepare_threshold=None) as conn:
        try:
            read_session_table_now(conn)
        except NotAdoptedError:
            return False
    return True


def say(wanted: Wanted, data: dict[str, object], lines: list[str]) -> None:
    """Print the lines, or the same as JSON."""
    text = json.dumps(data, ensure_ascii=False, indent=2) if wanted.as_json else "\n".join(lines)
    sys.stdout.write(text + "\n")
