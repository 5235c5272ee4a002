"""The command line: one function for each command; errors that a person can mend become one sentence."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from closedloop.errors import ClosedloopError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Takes a deal won in a CRM back to the website session that earned it.",
)

DataDir = Annotated[
    Path | None, typer.Option(help="Folder for keys, the spool and the embedded PostgreSQL. [./data]")
]
ConfigPath = Annotated[Path | None, typer.Option("--config", help="closedloop.toml; optional.")]
Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)]


@app.command()
def serve(
    host: Host = "127.0.0.1",
    port: Port = 8000,
    data_dir: DataDir = None,
    config: ConfigPath = None,
    workers: Annotated[int, typer.Option(help="Web processes on the port.", min=1, max=64)] = 1,
) -> None:
    """Run everything. Without DATABASE_URL an embedded PostgreSQL starts in the data folder.

    Example: closedloop serve --host 0.0.0.0 --port 8000 --data-dir /var/lib/closedloop
    """
    from closedloop.edge.cli.serve import Start, run

    run(Start(host=host, port=port, data_dir=data_dir, config=config, workers=workers))


@app.command()
def web(
    host: Host = "127.0.0.1",
    port: Port = 8000,
    data_dir: DataDir = None,
    config: ConfigPath = None,
    joins: Annotated[bool, typer.Option("--joins", hidden=True)] = False,  # noqa: FBT002 - a flag
) -> None:
    """Run the half that answers HTTP, for more than one machine.

    Example: DATABASE_URL=postgresql://… closedloop web --host 0.0.0.0 --port 8000
    """
    from closedloop.edge.cli.serve import Start, run

    run(Start(worker=False, host=host, port=port, data_dir=data_dir, config=config, joins=joins))


@app.command()
def worker(data_dir: DataDir = None, config: ConfigPath = None) -> None:
    """Run the half that matches late sessions and keeps goal lists whole.

    Example: DATABASE_URL=postgresql://… closedloop worker
    """
    from closedloop.edge.cli.serve import Start, run

    run(Start(web=False, data_dir=data_dir, config=config))


@app.command()
def inspect(
    source: Annotated[str, typer.Argument(help="Who sent it: generic.")],
    file: Annotated[Path, typer.Argument(help="One HTTP request, byte for byte.")],
    config: ConfigPath = None,
) -> None:
    """Show what is read in one recorded request; exit code 1 when it would be refused.

    Example: closedloop inspect generic tests/recorded/integrators/make-json.http
    """
    from closedloop.edge.cli.inspect import inspect as run

    run(source, file, config)


@app.command()
def demo(
    once: Annotated[bool, typer.Option("--once", help="Stop after the story.")] = False,  # noqa: FBT002 - a flag
    data_dir: Annotated[Path | None, typer.Option(help="A new folder to play in. [a temporary one]")] = None,
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print rows and checks as JSON.")] = False,  # noqa: FBT002 - a flag
) -> None:
    """Show the whole way of a deal on a server of its own, and check every row of it.

    Example: closedloop demo --once
    """
    from closedloop.edge.cli.demo import Demo, run

    raise typer.Exit(run(Demo(once=once, data_dir=data_dir, port=port, as_json=as_json)))


@app.command()
def bench(
    sessions: Annotated[int, typer.Option(help="Sessions in the table.", min=1)] = 1_000_000,
    seconds: Annotated[int, typer.Option(help="Length of each run of a load.", min=1)] = 8,
    quick: Annotated[bool, typer.Option("--quick", help="Half a minute; the figures mean little.")] = False,  # noqa: FBT002 - a flag
    big: Annotated[bool, typer.Option("--big", help="Also with ten times the sessions.")] = False,  # noqa: FBT002 - a flag
    write: Annotated[
        Path | None, typer.Option(help="Page to put the report into, between its marks.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print every run as JSON.")] = False,  # noqa: FBT002 - a flag
) -> None:
    """Measure this machine: conversions over HTTP beside the same work as plain SQL. Needs wrk.

    Example: closedloop bench --write docs/performance.md
    """
    from closedloop.edge.cli.bench import Wanted, chosen_plan, run

    plan = chosen_plan(sessions=sessions, seconds=seconds, quick=quick, big=big)
    raise typer.Exit(run(Wanted(plan=plan, write=write, as_json=as_json)))


def main() -> None:
    """Run the command line; exit code 0, 1 (it failed) or 2 (wrong use)."""
    try:
        app()
    except ClosedloopError as error:
        for line in str(error).splitlines():
            sys.stderr.write(f"closedloop: {line}\n")
        raise SystemExit(1) from None
