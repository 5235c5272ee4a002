"""The command line: one function for each command; errors that a person can mend become one sentence.

A command is imported when it runs: `serve` would keep in memory for ever what only others need.
"""

import sys
from pathlib import Path
from typing import Any

import click

from closedloop import __version__
from closedloop.errors import ClosedloopError

FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(path_type=Path)

data_dir = click.option(
    "--data-dir", type=FOLDER, help="Folder for keys, the spool and the embedded PostgreSQL.  [./data]"
)
config = click.option("--config", type=FILE, help="closedloop.toml; optional.")
host = click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
port = click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Port to listen on; 0 takes a free one.",
)
site = click.option("--site", default="default", show_default=True, help="The site.")
crm = click.option("--crm", help="Only this CRM: bitrix24 or amocrm.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print data as JSON.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="%(version)s")
def app() -> None:
    """Take a deal won in a CRM back to the website session that earned it."""


@app.command()
@host
@port
@data_dir
@config
@click.option(
    "--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Web processes on the port."
)
def serve(**told: Any) -> None:  # noqa: ANN401 - the options above
    """Run everything. Without DATABASE_URL an embedded PostgreSQL starts in the data folder.

    \b
    Example: closedloop serve --host 0.0.0.0 --port 8000 --data-dir /var/lib/closedloop
    """  # noqa: D301 - \b is click's own mark
    from closedloop.edge.cli.serve import run
    from closedloop.edge.cli.start import Start

    run(Start(**told))


@app.command()
@host
@port
@data_dir
@config
@click.option("--joins", is_flag=True, hidden=True)
def web(**told: Any) -> None:  # noqa: ANN401 - the options above
    """Run the half that answers HTTP, for more than one machine.

    \b
    Example: DATABASE_URL=postgresql://… closedloop web --host 0.0.0.0 --port 8000
    """  # noqa: D301 - \b is click's own mark
    from closedloop.edge.cli.serve import run
    from closedloop.edge.cli.start import Start

    run(Start(worker=False, **told))


@app.command()
@data_dir
@config
def worker(**told: Any) -> None:  # noqa: ANN401 - the options above
    """Run the half that matches late sessions and keeps goal lists whole.

    \b
    Example: DATABASE_URL=postgresql://… closedloop worker
    """  # noqa: D301 - \b is click's own mark
    from closedloop.edge.cli.serve import run
    from closedloop.edge.cli.start import Start

    run(Start(web=False, **told))


@app.command()
@click.option(
    "--export", "folder", type=FOLDER, help="Write them here, for `supabase db push`; nothing else."
)
@data_dir
@config
@as_json
def migrate(**told: Any) -> None:  # noqa: ANN401 - the options above
    """Bring our own schema in the database up to date; safe when two do it at once.

    \b
    Example: DATABASE_URL=postgresql://… closedloop migrate
    """  # noqa: D301 - \b is click's own mark
    from closedloop.edge.cli.migrate import Wanted, run

    raise SystemExit(run(Wanted(**told)))


@app.command()
@site
@click.option("--session", help="A session id.")
@click.option("--visitor", help="A visitor's id (ta_user_id).")
@click.option("--ym-uid", help="Metrica's ClientID.")
@click.option("--phone", help="A phone, written as people do.")
@click.option("--email", help="An e-mail address.")
@click.option("--yes", "-y", is_flag=True, help="Do it; without, only say what would be forgotten.")
@data_dir
@config
@as_json
def erase(**told: Any) -> None:  # noqa: ANN401 - the options above
    """Forget one visitor: identifiers, pages and contacts go, goals and sums stay.

    \b
    Example: closedloop erase --phone "+7 900 123-45-67" --yes
    """  # noqa: D301 - \b is click's own mark
    from closedloop.edge.cli.erase import Wanted, run

    raise SystemExit(run(Wanted(**told)))


@app.command(name="import")
@click.argument("file", type=FILE)
@site
@click.option(
    "--column", multiple=True, metavar="KEY=NAME", help='Which column is which: goal_value="Сумма".'
)
@click.option(
    "--only", multiple=True, metavar="STAGE", help="Count only rows of this stage; may be repeated."
)
@click.option("--goal", default="payment_success", show_default=True, help="The goal of rows that name none.")
@click.option("--dry-run", is_flag=True, help="Only show what would be recorded.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@data_dir
@config
@as_json
def import_(**told: Any) -> None:  # noqa: ANN401 - the options above
    """Record the history of deals from a spreadsheet, CSV or XLSX; each row counts once.

    \b
    Example: closedloop import deals.csv --column goal_value="Сумма" --only "Сделка успешна" --dry-run
    """  # noqa: D301 - \b is click's own mark
    from closedloop.edge.cli.import_deals import Wanted, run

    raise SystemExit(run(Wanted(**told)))


@app.command()
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only say what was found and what would be done.")
@data_dir
@config
@as_json
def adopt(**told: Any) -> None:  # noqa: ANN401 - the options above
    """Say what a user_analytics of yours needs, then do it while its script goes on writing.

    \b
    Example: DATABASE_URL=postgresql://… closedloop adopt --dry-run
    """  # noqa: D301 - \b is click's own mark
    from closedloop.edge.cli.adopt import Wanted, run

    raise SystemExit(run(Wanted(**told)))


@app.command()
@data_dir
@config
@as_json
def doctor(**told: Any) -> None:  # noqa: ANN401 - the options above
    """Check everything that has to be right, and say of each thing how to mend it.

    \b
    Example: DATABASE_URL=postgresql://… closedloop doctor
    """  # noqa: D301 - \b is click's own mark
    from closedloop.edge.cli.doctor import Wanted, run

    raise SystemExit(run(Wanted(**told)))


@app.command()
@click.argument("source")
@click.argument("file", type=FILE)
@config
def inspect(source: str, file: Path, config: Path | None) -> None:
    """Show what is read in one recorded request; exit code 1 when it would be refused.

    \b
    Example: closedloop inspect generic tests/recorded/integrators/make-json.http
    """  # noqa: D301 - \b is click's own mark
    from closedloop.edge.cli.inspect import run

    raise SystemExit(run(source, file, config))


@app.command()
@site
@crm
@click.option("--since", help="Also what changed since this day, such as 2026-11-01.")
@click.option("--all", "all_deals", is_flag=True, help="Look at every deal with a conversion again.")
@data_dir
@config
@as_json
def sweep(**told: Any) -> None:  # noqa: ANN401 - the options above
    """Read now what a CRM has not told; the server does it by itself at intervals.

    \b
    Example: closedloop sweep --since 2026-11-01
    """  # noqa: D301 - \b is click's own mark
    from closedloop.edge.cli.sweep import Wanted, run

    raise SystemExit(run(Wanted(**told)))


@app.command()
@click.option("--from", "start", required=True, help="First day of the period, such as 2026-11-01.")
@click.option("--to", "end", required=True, help="Last day of the period, such as 2026-11-30.")
@site
@crm
@data_dir
@config
@as_json
def reconcile(**told: Any) -> None:  # noqa: ANN401 - the options above
    """Compare the CRM's deals of a period with ours, one by one; exit code 1 when anything is missing.

    \b
    Example: closedloop reconcile --from 2026-11-01 --to 2026-11-30
    """  # noqa: D301 - \b is click's own mark
    from closedloop.edge.cli.reconcile import Wanted, run

    raise SystemExit(run(Wanted(**told)))


@app.command()
@site
@click.option("--source", help="Only of this sender, such as bitrix24.")
@click.option("--dry-run", is_flag=True, help="Only show what could not be read, and why.")
@data_dir
@config
@as_json
def replay(**told: Any) -> None:  # noqa: ANN401 - the options above
    """Work again on webhooks that could not be read, once the reason is mended.

    \b
    Example: closedloop replay --dry-run
    """  # noqa: D301 - \b is click's own mark
    from closedloop.edge.cli.replay import Wanted, run

    raise SystemExit(run(Wanted(**told)))


@app.command()
@click.argument("deal")
@site
@data_dir
@config
@as_json
def why(**told: Any) -> None:  # noqa: ANN401 - the options above
    """Tell the story of one deal: what came in, what it found, what was sent, what happens next.

    \b
    Example: closedloop why 662
    """  # noqa: D301 - \b is click's own mark
    from closedloop.edge.cli.why import Wanted, run

    raise SystemExit(run(Wanted(**told)))


@app.command()
@site
@click.option("--destination", help="Only to this destination.")
@click.option("--state", help="Only in this state, or with this outcome, such as parked or expired.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="At most so many.")
@data_dir
@config
@as_json
def deliveries(**told: Any) -> None:  # noqa: ANN401 - the options above
    """List what was told to which destination, what waits, and what was refused.

    \b
    Example: closedloop deliveries --state parked
    """  # noqa: D301 - \b is click's own mark
    from closedloop.edge.cli.deliveries import Wanted, run

    raise SystemExit(run(Wanted(**told)))


@app.command()
@click.option("--once", is_flag=True, help="Stop after the story.")
@click.option("--data-dir", type=FOLDER, help="A new folder to play in.  [a temporary one]")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port to listen on.  [a free one]")
@as_json
def demo(**told: Any) -> None:  # noqa: ANN401 - the options above
    """Show the whole way of a deal on a server of its own, and check every row of it.

    \b
    Example: closedloop demo --once
    """  # noqa: D301 - \b is click's own mark
    from closedloop.edge.cli.demo import Demo, run

    raise SystemExit(run(Demo(**told)))


@app.command()
@click.option(
    "--sessions", type=click.IntRange(1), default=1_000_000, show_default=True, help="Sessions in the table."
)
@click.option(
    "--seconds", type=click.IntRange(1), default=8, show_default=True, help="Length of each run of a load."
)
@click.option("--quick", is_flag=True, help="Half a minute; the figures mean little.")
@click.option("--big", is_flag=True, help="Also with ten times the sessions.")
@click.option("--write", type=FILE, help="Page to put the report into, between its marks.")
@as_json
def bench(write: Path | None, as_json: bool, **told: Any) -> None:  # noqa: ANN401, FBT001 - the options above
    """Measure this machine: conversions over HTTP beside the same work as plain SQL. Needs wrk.

    \b
    Example: closedloop bench --write docs/performance.md
    """  # noqa: D301 - \b is click's own mark
    from closedloop.edge.cli.bench import Wanted, chosen_plan, run

    raise SystemExit(run(Wanted(plan=chosen_plan(**told), write=write, as_json=as_json)))


def main() -> None:
    """Run the command line; exit code 0, 1 (it failed) or 2 (wrong use)."""
    try:
        app()
    except ClosedloopError as error:
        for line in str(error).splitlines():
            sys.stderr.write(f"closedloop: {line}\n")
        raise SystemExit(1) from None
