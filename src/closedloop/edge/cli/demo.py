"""`closedloop demo`: a newcomer's first look, and a check of the whole way; see demo_story.py."""

import contextlib
import sys
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import psycopg
from rich.console import Console
from rich.table import Table

from closedloop.edge.cli.demo_rows import Cast, Check, Rows, check_all, goals_of, read_rows
from closedloop.edge.cli.demo_server import OwnServer, ended_by_signals, own_server, temporary_folder
from closedloop.edge.cli.demo_story import Storyteller
from closedloop.edge.http.hook import PATH
from closedloop.errors import OperatorError
from closedloop.store.database import translated

MARK = "closedloop-demo"  # says that a folder is the demo's, and how many runs it has seen
WIDTH = 110  # where there is no terminal to ask


class Demo(msgspec.Struct, frozen=True, kw_only=True):
    """What `demo` is started with; no folder means a temporary one, port 0 a free one."""

    once: bool = False
    data_dir: Path | None = None
    port: int = 0
    as_json: bool = False


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How the story ended: `--json` prints it."""

    ok: bool
    checks: Sequence[Check]
    rows: Rows


def run(demo: Demo) -> int:
    """Play the story and return the exit code: 0 when every row is as it should be, else 1.

    Without `once` the server runs on until Ctrl-C. Raises OperatorError when it does not start.
    """
    try:
        return play_all(demo)
    except KeyboardInterrupt:
        sys.stderr.write("\nclosedloop: interrupted; the server of the demo is ended\n")
        return 1


def play_all(demo: Demo) -> int:
    """Play the story in its folder and return the exit code; see `run`."""
    console = Console(quiet=demo.as_json, width=None if sys.stdout.isatty() else WIDTH)
    with ended_by_signals(), chosen_folder(demo.data_dir) as folder:
        cast = Cast(next_run(folder))
        console.print(
            "[bold]closedloop demo[/]: starting a server and its PostgreSQL, in a folder of their own…"
        )
        with own_server(folder, port=demo.port) as server:
            console.print(f"Ready after {server.started_in:.1f} s on {server.address}")
            ending = play(server, console, cast)
            show_ending(console, ending, cast)
            if demo.as_json:
                sys.stdout.write(msgspec.json.format(msgspec.json.encode(ending), indent=2).decode() + "\n")
            if not demo.once:
                stay(server, cast)
    return exit_code(ending)


def play(server: OwnServer, console: Console, cast: Cast) -> Ending:
    """Play the story on a running server and look at what it left. Raises DatabaseAwayError when it fell."""
    with translated(), psycopg.connect(server.postmaster.conninfo, autocommit=True) as conn:
        story = Storyteller(server, conn, console, cast).play()
        rows = read_rows(conn, cast)
    checks = check_all(cast, story, rows)
    return Ending(ok=all(one.ok for one in checks), checks=checks, rows=rows)


def exit_code(ending: Ending) -> int:
    """Return 0 when everything is as it should be, else 1."""
    return 0 if ending.ok else 1


def stay(server: OwnServer, cast: Cast) -> None:
    """Say how to play on, and wait for Ctrl-C. Raises OperatorError when the server falls."""
    body = f'{{"session_id": "{cast.buyer}", "goal_name": "repeat_order", "goal_value": 1200}}'
    headers = f"-H 'X-Webhook-Key: {server.key}' -H 'Content-Type: application/json'"
    lines = [
        "",
        "The server runs on, for you to play with; Ctrl-C ends it.",
        f"Address      {server.address}",
        f"Webhook key  {server.key}",
        f"curl -X POST '{server.address}{PATH}' {headers} -d '{body}'",
    ]
    sys.stderr.write("\n".join(lines) + "\n")
    with contextlib.suppress(KeyboardInterrupt):
        server.wait()
        raise OperatorError(f"the server ended by itself; its log is {server.folder}")


@contextlib.contextmanager
def chosen_folder(data_dir: Path | None) -> Generator[Path]:
    """Give the folder to play in: a temporary one, or an empty one or an earlier demo's that was named.

    Raises OperatorError for any other: made-up deals do not belong among real ones.
    """
    if data_dir is None:
        with temporary_folder("demo") as folder:
            yield folder
        return
    folder = data_dir.resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()) and not (folder / MARK).exists():
            raise OperatorError(
                f"{folder} is not empty and not an earlier demo's; it makes up deals, so give it a new folder"
            )
    except OSError as error:
        raise OperatorError(f"{folder} cannot be used for the demo: {error.strerror}") from error
    yield folder


def next_run(folder: Path) -> int:
    """Return the number of this run in this folder, from 1, and note it."""
    mark = folder / MARK
    run = int(mark.read_text()) + 1 if mark.exists() else 1
    mark.write_text(f"{run}\n")
    return run


def show_ending(console: Console, ending: Ending, cast: Cast) -> None:
    """Show the final rows and every check."""
    console.print("\n[bold]What is in the database now[/]\n")
    for table in (
        sessions_table(ending.rows),
        ledger_table(ending.rows),
        why_table(ending.rows, cast.deal(1)),
    ):
        console.print(table)
    console.print("[bold]Checks[/]")
    for one in ending.checks:
        verdict = "[green]ok    [/]" if one.ok else "[red]failed[/]"
        console.print(f"  {verdict}  {one.name}", highlight=False)
        if not one.ok:
            console.print(f"          found: {one.found}", markup=False, highlight=False, soft_wrap=True)
    failed = sum(not one.ok for one in ending.checks)
    verdict = (
        f"[red]{failed} of {len(ending.checks)} checks failed.[/]"
        if failed
        else "[green]All is as it should be.[/]"
    )
    console.print(f"\n{verdict}")


def sessions_table(rows: Rows) -> Table:
    """Return the sessions with the goals that the CRM added to them."""
    table = titled(
        "public.user_analytics: the sessions and their goals", "session", "goal", "value", "source", "deal"
    )
    for session_id, document in rows.sessions.items():
        for goal in goals_of(document):
            shown = [f"{goal.get('value')} {goal.get('currency')}", goal.get("source"), goal.get("deal_id")]
            table.add_row(session_id, str(goal.get("goal")), *map(str, shown))
    return table


def ledger_table(rows: Rows) -> Table:
    """Return the ledger."""
    columns = ("deal", "goal", "value", "state", "matched by", "revision")
    table = titled("closedloop.conversion: the ledger, which is the truth", *columns)
    for row in rows.conversions:
        money = f"{row.value} {row.currency}"
        table.add_row(row.deal_id, row.goal, money, row.state, row.rule or "", str(row.revision))
    return table


def why_table(rows: Rows, deal_id: str) -> Table:
    """Return the journal of one deal."""
    table = titled(f"closedloop.journal: why deal {deal_id} is as it is", "at (UTC)", "what", "in words")
    for row in rows.journal:
        if row.deal_id == deal_id:
            table.add_row(row.at, row.kind, in_words(row.kind, row.detail))
    return table


def in_words(kind: str, detail: dict[str, Any]) -> str:
    """Return a line of the journal as a sentence."""
    if kind == "revised":
        return f"its sum was {detail['value_before']}, now it is {detail['value']} {detail['currency']}"
    return {
        "matched": "its session was found, and shows it",
        "repeated": "it was told again, and nothing changed",
    }.get(kind, "")


def titled(title: str, *columns: str) -> Table:
    """Return an empty table."""
    table = Table(title=title, title_justify="left", title_style="", expand=False)
    for column in columns:
        table.add_column(column)
    return table
