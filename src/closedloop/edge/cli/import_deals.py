"""`closedloop import`: the history of deals from a spreadsheet; shows what it understood, then records it."""

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

import click
import msgspec
from rich.console import Console

from closedloop.domain.tables import nearest
from closedloop.edge.cli.crm_process import log_warnings_only
from closedloop.edge.cli.database import database_of, site_of
from closedloop.edge.cli.import_file import open_table
from closedloop.edge.cli.import_record import CHUNK, Recording, Tally, written_at
from closedloop.edge.cli.import_rows import GoodRow, Plan, Survey, Wish, make_plan, survey
from closedloop.edge.cli.import_show import (
    Outcome,
    as_data,
    bar,
    say_plan,
    say_prediction,
    say_survey,
    say_tally,
)
from closedloop.errors import OperatorError, TransientError
from closedloop.parse.headings import KEYS
from closedloop.stages import clock
from closedloop.stages.process import Process

DEFAULT_GOAL = "payment_success"


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What `import` is asked for."""

    file: Path
    site: str = "default"
    column: Sequence[str] = ()  # goal_value=Сумма
    only: Sequence[str] = ()
    goal: str = DEFAULT_GOAL
    dry_run: bool = False
    yes: bool = False
    config: Path | None = None
    data_dir: Path | None = None
    as_json: bool = False


def run(wanted: Wanted) -> int:
    """Show what a table says, ask, record it, and return the exit code: 1 when a row was bad.

    Raises OperatorError when the file is no table that can be read, or the site is unknown; UsageError for
    a `--column` that names no key.
    """
    wish = Wish(columns=chosen_columns(wanted.column), only=wanted.only, goal=wanted.goal)
    console = Console(
        file=sys.stderr if wanted.as_json else sys.stdout, highlight=False, markup=False, soft_wrap=True
    )
    log_warnings_only()
    table = open_table(wanted.file)
    with database_of(wanted.config, wanted.data_dir) as (settings, conninfo):
        site = site_of(settings, wanted.site)
        plan = make_plan(table, wish, site, clock.now())
        say_plan(console, plan)
        with bar(console, "reading") as advance:
            found = survey(plan, site.currency, advance)
        say_survey(console, plan, found)
        process = Process(settings, conninfo, web=False, worker=False)
        recording = Recording(process, site, written_at(wanted.file, clock.now()))
        work = Work(wanted=wanted, console=console, plan=plan, survey=found, recording=recording)
        outcome = asyncio.run(carry_out(work, conninfo))
    if wanted.as_json:
        sys.stdout.write(json.dumps(as_data(outcome), ensure_ascii=False, indent=2) + "\n")
    refused = outcome.tally is not None and outcome.tally.refused
    unanswered = outcome.tally is None and not wanted.dry_run and not sys.stdin.isatty()
    return 1 if found.bad or refused or unanswered else 0


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """One run: what is wanted, what was found, and who records it."""

    wanted: Wanted
    console: Console
    plan: Plan
    survey: Survey
    recording: Recording


def chosen_columns(told: Sequence[str]) -> Mapping[str, str]:
    """Return the names that the owner gave to keys. Raises UsageError for what is not KEY=NAME."""
    chosen: dict[str, str] = {}
    for one in told:
        key, equals, name = one.partition("=")
        if not equals or key not in KEYS:
            known = ", ".join(KEYS)
            hint = nearest(key, KEYS)
            raise click.UsageError(f"--column {one}: write KEY=NAME, where KEY is one of {known}{hint}")
        chosen[key] = name.strip()
    return chosen


async def carry_out(work: Work, conninfo: str) -> Outcome:
    """Ask the database what would be found, then the person, and record the rows if both agree."""
    process = work.recording.process
    tally: Tally | None = None
    try:
        prediction = await work.recording.predict(conninfo, work.survey.sample)
        say_prediction(work.console, prediction)
        if not work.wanted.dry_run and agreed(work, sys.stdin):
            await process.start()
            if process.writer.away is not None:
                raise process.writer.away
            tally = await record(work)
        elif not work.wanted.dry_run:
            work.console.print("Nothing was recorded.")
    finally:
        await process.stop()
    return Outcome(plan=work.plan, survey=work.survey, prediction=prediction, tally=tally)


def agreed(work: Work, terminal: TextIO) -> bool:
    """Return whether to record: `--yes`, or a person at the terminal who says so."""
    if work.wanted.yes:
        return True
    if not terminal.isatty():
        work.console.print("Nobody is here to be asked; run it again with --yes.")
        return False
    question = f"Rows to record: {work.survey.good:,}. Record them?"
    return click.confirm(question, default=False, err=work.wanted.as_json)


async def record(work: Work) -> Tally:
    """Record all rows that can be read, chunk by chunk. Raises TransientError with what to do."""
    tally = work.recording.tally
    chunk: list[GoodRow] = []
    try:
        with bar(work.console, "recording", work.survey.good) as advance:
            for row in work.plan.rows():
                if isinstance(row, GoodRow):
                    chunk.append(row)
                if len(chunk) == CHUNK:
                    await work.recording.take(chunk)
                    advance(len(chunk))
                    chunk = []
            await work.recording.take(chunk)
    except TransientError as error:
        say_tally(work.console, tally, work.survey.bad)
        raise OperatorError(
            f"{error}. What is recorded stays: run the same command again, and it goes on from there"
        ) from error
    say_tally(work.console, tally, work.survey.bad)
    return tally
