"""What a person sees of an import: what was understood, what is wrong, what became of the rows."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from zoneinfo import ZoneInfo

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table as Grid

from closedloop.domain.conversion import ReportedConversion
from closedloop.domain.money import decimal_text
from closedloop.edge.cli.import_record import Prediction, Tally
from closedloop.edge.cli.import_rows import BadRow, GoodRow, Plan, Survey
from closedloop.parse.headings import STATUS

SHOWN_BAD = 20
SHOWN_STAGES = 8
# Of a hundred healthy ids about one ends as if it had been rounded.
BY_CHANCE = 0.02
WORDS = {"\t": "tabs", ";": "semicolons", ",": "commas", "|": "bars"}


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """All that an import found and did; `tally` is None when nothing was recorded."""

    plan: Plan
    survey: Survey
    prediction: Prediction | None
    tally: Tally | None


def say_plan(console: Console, plan: Plan) -> None:
    """Print what the file is and which column is read as what."""
    console.print(f"{plan.table.path}: {format_of(plan)}; the names stand in row {plan.header}.")
    grid = Grid("key", "column", title_justify="left")
    for column in plan.columns:
        currency = f"  (in {column.currency})" if column.currency else ""
        grid.add_row(column.key, column.name + currency)
    console.print(grid)
    if plan.unused:
        console.print(f"Not read: {', '.join(plan.unused)}.")
    console.print('Wrong? Say it: --column goal_value="Сумма", or --column phone= for none.')


def format_of(plan: Plan) -> str:
    """Return in words what kind of file it is."""
    table = plan.table
    if not table.sheet:
        return f"CSV, {table.encoding}, separated by {WORDS.get(table.delimiter, table.delimiter)}"
    others = f"; not read: {', '.join(table.other_sheets)}" if table.other_sheets else ""
    return f"XLSX, sheet {table.sheet}{others}"


def say_survey(console: Console, plan: Plan, survey: Survey) -> None:
    """Print the first rows as read, the counts, what is wrong, and what to think of before going on."""
    if survey.first:
        grid = Grid("row", "deal or event", "goal", "sum", "when", "visitor", title_justify="left")
        for row in survey.first:
            grid.add_row(*sample_cells(row, plan.reader.zone))
        console.print(grid)
    sums = ", ".join(f"{decimal_text(value)} {code}" for code, value in sorted(survey.sums.items()))
    console.print(
        f"Rows: {survey.rows:,}; read: {survey.good:,}; bad: {survey.bad:,}; "
        f"passed over: {survey.passed_over:,}. Sum: {sums or 'none'}."
    )
    say_bad(console, survey.bad_rows, survey.bad)
    for warning in warnings_of(plan, survey):
        console.print(f"Note: {warning}")


def sample_cells(row: GoodRow, zone: ZoneInfo) -> tuple[str, ...]:
    """Return one row as its cells are shown, the date as it is in the site's zone."""
    told = row.read.told
    value = "none" if told.value is None else decimal_text(told.value)
    when = "none" if told.occurred_at is None else f"{told.occurred_at.astimezone(zone):%Y-%m-%d %H:%M}"
    money = f"{value} {told.currency or ''}".rstrip()
    return str(row.row), told.deal_id or told.event_id or "", told.goal, money, when, visitor_of(told)


def visitor_of(told: ReportedConversion) -> str:
    """Return by what the visitor of a row would be found."""
    known = {
        "session": told.session_id,
        "ym_uid": told.ym_uid,
        **told.click_ids,
        "phone": told.phone,
        "e-mail": told.email,
    }
    return ", ".join(f"{name} {value}" for name, value in known.items() if value)


def say_bad(console: Console, rows: Sequence[BadRow], count: int) -> None:
    """Print the first rows that cannot be read, each with the reason."""
    for row in rows[:SHOWN_BAD]:
        column = f", column {row.column}" if row.column else ""
        console.print(f"  row {row.row}{column}: {row.reason}")
    if count > SHOWN_BAD:
        console.print(f"  and {count - SHOWN_BAD:,} more; --json lists them")


def warnings_of(plan: Plan, survey: Survey) -> list[str]:
    """Return what an owner should think of before the rows are recorded."""
    found: list[str] = []
    if survey.rounded:
        chance = (
            " About one healthy id of a hundred looks so by chance, and these may be no more than that."
            if survey.rounded <= survey.good * BY_CHANCE
            else ""
        )
        found.append(
            f"ClientIDs that look rounded by a spreadsheet, such as 1.7E+18: {survey.rounded:,}. They match "
            "only where a single visitor fits. To mend it, format the column as text before the ids come "
            f"into it, and export again.{chance}"
        )
    if survey.undated:
        found.append(f"rows without a date: {survey.undated:,}; they would count as of now.")
    if survey.unpriced:
        found.append(f"rows without a sum: {survey.unpriced:,}; they would count as 0.")
    if len(survey.stages) > 1 and not plan.reader.only:
        stages = survey.stages.most_common(SHOWN_STAGES)
        listed = ", ".join(f"{name or '(empty)'}: {count:,}" for name, count in stages)
        name = next(column.name for column in plan.columns if column.key == STATUS)
        found.append(
            f"every row would count, whatever its stage. The column {name} has: {listed}. "
            f'To take some only: --only "{stages[0][0]}"'
        )
    return found


def say_prediction(console: Console, prediction: Prediction | None) -> None:
    """Print how many rows would find a session."""
    if prediction is None:
        console.print("The database has no sessions yet: no row would find one now.")
    elif prediction.asked:
        share = prediction.found / prediction.asked
        console.print(
            f"Sessions: {prediction.found:,} of {prediction.asked:,} rows asked about would find one "
            f"({share:.0%}). The others are kept and are matched by themselves if their session comes."
        )


def say_tally(console: Console, tally: Tally, bad: int) -> None:
    """Print what became of the rows."""
    console.print(
        f"Done. New: {tally.new:,}; known: {tally.known:,}; revised: {tally.revised:,}; "
        f"stale: {tally.stale:,}; bad: {bad + len(tally.refused):,}. "
        f"Matched: {tally.matched:,}; unmatched: {tally.unmatched:,}."
    )
    say_bad(console, tally.refused, len(tally.refused))
    if tally.stale:
        rows = ", ".join(map(str, tally.stale_rows[:SHOWN_BAD]))
        more = ", …" if tally.stale > SHOWN_BAD else ""
        console.print(
            f"Stale: rows {rows}{more} tell another sum for a deal that was told of later than the file was "
            "written, or by an earlier row of it. The known sum stays. If the file is right, save it again "
            "(its time of change counts) and run this again."
        )


def as_data(outcome: Outcome) -> dict[str, object]:
    """Return everything as plain data for `--json`; sums are text."""
    plan, survey, tally = outcome.plan, outcome.survey, outcome.tally
    columns: dict[str, list[str]] = {}
    for column in plan.columns:
        columns.setdefault(column.key, []).append(column.name)
    refused = tally.refused if tally is not None else []
    return {
        "file": str(plan.table.path),
        "format": format_of(plan),
        "header_row": plan.header,
        "columns": columns,
        "not_read": plan.unused,
        "rows": survey.rows,
        "read": survey.good,
        "bad": survey.bad + len(refused),
        "passed_over": survey.passed_over,
        "rounded_ids": survey.rounded,
        "without_date": survey.undated,
        "without_sum": survey.unpriced,
        "sums": {code: decimal_text(value) for code, value in survey.sums.items()},
        "stages": dict(survey.stages.most_common()),
        "sample": [sample_data(row) for row in survey.first],
        "bad_rows": msgspec.to_builtins([*survey.bad_rows, *refused]),
        "prediction": msgspec.to_builtins(outcome.prediction),
        "recorded": None if tally is None else counts_of(tally),
    }


def sample_data(row: GoodRow) -> dict[str, object]:
    """Return one row as it was read, without what only the ledger needs."""
    told: dict[str, object] = msgspec.to_builtins(row.read.told)
    return {"row": row.row, **{key: value for key, value in told.items() if key != "digest"}}


def counts_of(tally: Tally) -> dict[str, object]:
    """Return what became of the rows as plain data."""
    names = ("new", "known", "revised", "stale", "matched", "unmatched")
    return {**{name: getattr(tally, name) for name in names}, "stale_rows": tally.stale_rows}


@contextmanager
def bar(console: Console, name: str, total: int | None = None) -> Generator[Callable[[int], None]]:
    """Show a bar while a step lasts; what is given is called with each advance."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=total)

        def advance(count: int) -> None:
            progress.advance(task, count)

        yield advance
