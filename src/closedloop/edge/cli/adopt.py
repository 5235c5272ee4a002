"""`closedloop adopt`: says what it found and what it would do to a user_analytics of yours, then does it."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Self, TextIO

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table as Grid

from closedloop.edge.cli.database import database_of
from closedloop.stages import clock
from closedloop.store.adopt import Adoption
from closedloop.store.adopt import Progress as Step
from closedloop.store.adopt_look import Found
from closedloop.store.adopt_plan import Plan

MEGABYTE = 1024 * 1024
NEXT = "Next: closedloop doctor, then closedloop serve."


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What `adopt` is asked for."""

    config: Path | None = None
    data_dir: Path | None = None
    yes: bool = False  # do not ask
    dry_run: bool = False  # only say
    as_json: bool = False


def run(wanted: Wanted) -> int:
    """Look, say, ask where a person sits at the terminal, and do; 1 when the table cannot be adopted."""
    # Names of policies and views are their owner's text, and may have brackets.
    output = sys.stderr if wanted.as_json else sys.stdout
    console = Console(file=output, highlight=False, markup=False, soft_wrap=True)
    with (
        database_of(wanted.config, wanted.data_dir) as (settings, conninfo),
        Adoption(conninfo, list(settings.sites)) as adoption,
    ):
        plan = adoption.plan
        say_found(console, adoption.found)
        say_plan(console, plan)
        done = not plan.refusals and not wanted.dry_run and (plan.is_done or agreed(wanted, sys.stdin))
        if not done and not plan.refusals:
            console.print("Nothing was changed.")
        if done and not plan.is_done:
            with Bars(console) as bars:
                adoption.carry_out(clock.now(), bars.tell, clock.pause)
            console.print(f"Adopted. Your rows, columns, grants, policies and RLS are as they were. {NEXT}")
    if wanted.as_json:
        sys.stdout.write(json.dumps(as_data(adoption.found, plan, done=done), indent=2) + "\n")
    return 1 if plan.refusals else 0


def agreed(wanted: Wanted, terminal: TextIO) -> bool:
    """Return whether to go on: `--yes`, nobody there to be asked, or a person who says so."""
    if wanted.yes or not terminal.isatty():
        return True
    return click.confirm("Do this now?", default=False, err=wanted.as_json)  # standard output may be data


def say_found(console: Console, found: Found) -> None:
    """Print what stands in the table, a line for each thing."""
    grid = Grid("public.user_analytics", "as it is now", title_justify="left")
    for name, text in found_lines(found):
        grid.add_row(name, text)
    console.print(grid)


def found_lines(found: Found) -> list[tuple[str, str]]:
    """Return what was found, in words."""
    table = found.table
    columns = ", ".join(f"{column.name} {column.type}" for column in found.columns)
    exact = "" if found.counted else "about "
    repeated = "not counted" if found.repeated_sessions is None else f"{exact}{found.repeated_sessions:,}"
    return [
        ("rows", f"{exact}{found.rows:,}, {table.table_size / MEGABYTE:.1f} MB"),
        ("columns", columns),
        ("rows that share a session_id", repeated),
        ("sampled rows", sampled(found)),
        ("indexes", listed([f"{one.name}{'' if one.valid else ' (invalid)'}" for one in found.indexes])),
        ("views on it", listed(found.views)),
        ("triggers", listed(found.triggers)),
        ("row level security", "on" if table.row_security else "off"),
        ("policies", listed(found.policies)),
        ("grants to API roles", listed(found.grants)),
        ("owner, and our role", f"{table.owner}, {table.role}"),
        ("connection", "direct" if found.direct else "through a pooler"),
    ]


def sampled(found: Found) -> str:
    """Return what a sample of the rows holds, in words."""
    quality = found.quality
    if quality is None:
        return "not read"
    return (
        f"{quality.rows:,}: {quality.with_ym_uid:,} with ym_uid, {quality.with_yclid:,} with yclid, "
        f"{quality.without_document:,} without a document, {quality.without_timestamp:,} without a time"
    )


def listed(names: Sequence[str]) -> str:
    """Return names as one text."""
    return ", ".join(names) or "none"


def say_plan(console: Console, plan: Plan) -> None:
    """Print what will be done and what it costs, or what forbids it."""
    for refusal in plan.refusals:
        console.print(f"Cannot be adopted: {refusal.problem}.")
        console.print(f"  To mend it: {refusal.mend}")
    if plan.is_done:
        console.print("Nothing to do: this table is adopted.")
    steps = plan_lines(plan)
    if steps:
        console.print("What will be done:")
    for number, line in enumerate(steps, 1):
        console.print(f"  {number}. {line}")
    for warning in plan.warnings:
        console.print(f"  Note: {warning}")


def plan_lines(plan: Plan) -> list[str]:
    """Return the steps in words, each with its cost."""
    lines: list[str] = []
    if plan.migrations:
        lines.append(f"make our own schema closedloop ({listed(plan.migrations)}): touches nothing of yours")
    if plan.add_site:
        lines.append(
            "add the column site text not null default 'default': a change of the catalog only, no row is "
            "rewritten; waits half a second at a time for its lock, 1.3 s where an autovacuum has to give way"
        )
    lines += [
        f"{'rebuild' if index.rebuild else 'build'} the index {index.name} concurrently: writers go on; "
        f"about {index.bytes / MEGABYTE:.1f} MB and {index.seconds} s"
        for index in plan.indexes
    ]
    lines += [f"use your index {name}: it serves as it is" for name in plan.reused if lines]
    if plan.record is not None:
        lines.append(
            "note the shape of the table in closedloop.session_table: from then on the server uses it"
        )
    return lines


def as_data(found: Found, plan: Plan, *, done: bool) -> dict[str, object]:
    """Return everything as plain data for `--json`."""
    return {"done": done, "found": msgspec.to_builtins(found), "plan": msgspec.to_builtins(plan)}


class Bars:
    """A progress bar for each step; without a terminal a line when a step is done."""

    def __init__(self, console: Console) -> None:
        self.console = console
        words = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}")
        self.progress = Progress(
            *words, TimeElapsedColumn(), console=console, disable=not console.is_terminal
        )
        self.tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.progress.stop()

    def tell(self, step: Step) -> None:
        """Show how far a step is."""
        if step.step not in self.tasks:
            self.tasks[step.step] = self.progress.add_task(step.step, total=1.0, note="")
        self.progress.update(self.tasks[step.step], completed=step.share or 0.0, note=step.note)
        if step.share == 1.0 and not self.console.is_terminal:
            self.console.print(f"done: {step.step}")
