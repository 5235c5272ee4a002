"""The history of deals comes from a spreadsheet: shown first, recorded once, each row told of."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
from openpyxl import Workbook

from closedloop.config import child_environment
from fix_adopt import run_command
from fix_flow import Tables

pytestmark = pytest.mark.migrated

HEADER = "ID;session_id;ym_uid;Телефон;Сумма;Дата оплаты;Этап сделки"
LONG_ID = "1741000000123456787"
RUN = "--yes", "--json"

Report = dict[str, Any]


class Shop:
    """A folder with spreadsheets beside a database, and the command run on both."""

    def __init__(self, url: str, folder: Path, tables: Tables) -> None:
        self.url = url
        self.folder = folder
        self.tables = tables

    def save(self, *rows: str, header: str = HEADER, name: str = "deals.csv", age_s: float = 0) -> Path:
        """Save a table as Excel does in Russia, written so many seconds ago."""
        path = self.folder / name
        path.write_bytes("\r\n".join([header, *rows, ""]).encode("cp1251"))
        if age_s:
            then = path.stat().st_mtime - age_s
            os.utime(path, (then, then))
        return path

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run `closedloop import`, nobody at the terminal."""
        return run_command(self.url, self.folder, "import", *map(str, arguments))

    def report(self, *arguments: str | Path) -> Report:
        """Record a file and return what the command says of it as data."""
        report: Report = json.loads(self.run(*arguments, *RUN).stdout)
        return report

    def everything(self) -> list[Any]:
        """Return every row that an import could touch, as text."""
        names = *(f"closedloop.{name}" for name in TABLES), "public.user_analytics"
        rows: list[Any] = []
        for name in names:
            rows += self.tables.conn.execute(f"select t::text from {name} t order by 1".encode()).fetchall()  # noqa: S608 - constants
        return rows


TABLES = "conversion", "journal", "webhook", "event", "waiting", "identity"


@pytest.fixture
def shop(database: str, tmp_path: Path, tables: Tables) -> Shop:
    """Give a shop with one visitor whose session is known."""
    tables.add_session("s-1", LONG_ID)
    return Shop(database, tmp_path, tables)


def counts(report: Report) -> dict[str, int]:
    """Return what became of the rows."""
    return {name: count for name, count in report["recorded"].items() if name != "stale_rows"}


def counted(**told: int) -> dict[str, int]:
    """Return such counts, zero where nothing is said."""
    return dict.fromkeys(["new", "known", "revised", "stale", "matched", "unmatched"], 0) | told


def test_row_is_recorded_as_the_hook_would_record_it(shop: Shop) -> None:
    """History and what comes tomorrow stand in one ledger and in one goal list."""
    report = shop.report(shop.save("662;s-1;;;5 000,50;08.03.2025 15:20;Успешно"))

    assert counts(report) == counted(new=1, matched=1)
    goal = shop.tables.goals("s-1")[0]
    assert (goal["goal"], goal["value"], goal["deal_id"]) == ("payment_success", 5000.5, "662")
    assert goal["timestamp"] == "2025-03-08T12:20:00.000Z"
    assert shop.tables.one("select source from closedloop.webhook") == "import"


def test_every_way_to_a_visitor_is_taken(shop: Shop) -> None:
    """What finds nobody waits, as it does at the hook."""
    rows = "1;s-1;;;5;;", f"2;;{LONG_ID};;5;;", "3;;;+7 900 000-00-00;5;;", "4;s-9;;;5;;"

    report = shop.report(shop.save(*rows))

    assert counts(report) == counted(new=4, matched=2, unmatched=2)
    assert shop.tables.deals("unmatched") == ["3", "4"]


def test_dry_run_shows_everything_and_changes_nothing(shop: Shop) -> None:
    """The owner sees which column is the money before a single row counts."""
    before = shop.everything()
    path = shop.save("1;s-1;;;5000;08.03.2025;Успешно", "2;s-9;;;x;;Успешно", "3;s-9;;;7;;Отказ")

    done = shop.run(path, "--dry-run")

    assert done.returncode == 1
    for said in (
        "CSV, cp1251, separated by semicolons; the names stand in row 1",
        "Сумма",
        "Rows: 3; read: 2; bad: 1; passed over: 0. Sum: 5007 RUB.",
        "row 3, column Сумма: goal_value is not a finite number: 'x'",
        "rows without a date: 1",
        "The column Этап сделки has: Успешно: 2, Отказ: 1",
        "Sessions: 1 of 2 rows asked about would find one (50%)",
    ):
        assert said in done.stdout
    assert shop.everything() == before


def test_second_run_changes_nothing(shop: Shop) -> None:
    """Nobody remembers whether the file of last month was recorded."""
    path = shop.save(
        "1;s-1;;;5;08.03.2025;", "2;;;+79000000000;7;08.03.2025;", ";;;+79000000001;9;08.03.2025;"
    )
    first = shop.report(path)
    before = shop.everything()

    again = shop.report(path)

    assert counts(first) == counted(new=3, matched=1, unmatched=2)
    assert counts(again) == counted(known=3, matched=1, unmatched=2)
    assert shop.everything() == before


def test_same_table_in_another_format_changes_nothing(shop: Shop) -> None:
    """It was opened in a spreadsheet, sorted and saved as a workbook."""
    shop.report(shop.save("1;s-1;;;5;08.03.2025;", ";s-1;;+7 900 000-00-00;9,50;08.03.2025;"))
    before = shop.everything()
    book = Workbook()
    sheet = book.active
    assert sheet is not None
    for row in (["Сумма", "ID", "Телефон", "session_id", "Дата"], [9.5, None, 79000000000, "s-1", 45724],
                [5, 1, None, "s-1", "2025-03-08"]):  # fmt: skip
        sheet.append(row)
    book.save(shop.folder / "deals.xlsx")

    again = shop.report(shop.folder / "deals.xlsx")

    assert counts(again) == counted(known=2, matched=2)
    assert shop.everything() == before


def test_bad_rows_do_not_stop_the_others(shop: Shop) -> None:
    """Each is told by its number, its column and the reason, and a script sees it by the exit code."""
    path = shop.save(
        "1;s-1;;;пять;;", "2;s-1;;;5;;", ";;;;5;;", '4;s-1;;;"7"";;', "", ";;;;;;", "5;s-1;17x;;5;;"
    )

    done = shop.run(path, *RUN)

    report = json.loads(done.stdout)
    assert done.returncode == 1
    assert [(row["row"], row["key"], row["column"]) for row in report["bad_rows"]][:2] == [
        (2, "goal_value", "Сумма"),
        (4, "session_id", "session_id"),
    ]
    assert report["bad_rows"][0]["reason"] == "goal_value is not a finite number: 'пять'"
    assert shop.tables.deals() == ["2"]


def test_rounded_ids_are_told_with_what_to_do(shop: Shop) -> None:
    """Excel destroyed them, and the next export can be saved."""
    done = shop.run(shop.save("1;;1,741E+18;;5;;", f"2;;{LONG_ID};;5;;"), "--dry-run")

    assert "such as 1.7E+18: 1." in done.stdout
    assert "format the column as text" in done.stdout


def test_rounded_id_finds_the_only_visitor_who_fits(shop: Shop) -> None:
    """What can be repaired is repaired."""
    report = shop.report(shop.save("1;;1,74100000012346E+18;;5;;"))

    assert (report["rounded_ids"], counts(report)) == (1, counted(new=1, matched=1))


def test_changed_sum_of_a_newer_file_is_a_revision(shop: Shop) -> None:
    """The owner corrected the table and records it again."""
    shop.report(shop.save("1;s-1;;;5;;", "2;s-1;;;7;;"))

    again = shop.report(shop.save("1;s-1;;;6;;", "2;s-1;;;7;;"))

    assert counts(again) == counted(known=1, revised=1, matched=2)
    assert [goal["value"] for goal in shop.tables.goals("s-1")] == [6, 7]


def test_sum_that_was_told_after_the_file_was_written_stays(shop: Shop) -> None:
    """The export is of last week, and the CRM told the refund yesterday."""
    shop.report(shop.save("1;s-1;;;6;;"))
    before = shop.everything()

    again = shop.report(shop.save("1;s-1;;;5;;", age_s=3600))

    assert counts(again) == counted(stale=1, matched=1)
    assert again["recorded"]["stale_rows"] == [2]
    assert shop.everything() == before


def test_first_row_of_a_deal_counts(shop: Shop) -> None:
    """An export with a row for each product names a deal many times; which row counts must not be chance."""
    path = shop.save("1;s-1;;;5;;", "1;s-1;;;6;;", "2;s-1;;;7;;", "1;s-1;;;5;;")

    first = shop.report(path)
    again = shop.report(path)

    assert counts(first) == counted(new=2, known=1, stale=1, matched=4)
    assert counts(again) == counted(known=3, stale=1, matched=4)
    assert first["recorded"]["stale_rows"] == again["recorded"]["stale_rows"] == [3]
    assert [goal["value"] for goal in shop.tables.goals("s-1")] == [5, 7]


def test_later_file_brings_the_session_that_the_first_one_lacked(shop: Shop) -> None:
    """The second export has the column that was forgotten in the first."""
    shop.report(shop.save("1;;;+79000000000;5;;"))

    again = shop.report(shop.save("1;s-1;;+79000000000;5;;"))

    assert counts(again) == counted(known=1, matched=1)
    assert [goal["deal_id"] for goal in shop.tables.goals("s-1")] == ["1"]


def test_only_the_stages_that_were_named_count(shop: Shop) -> None:
    """Lost deals are in every export, and are no payments."""
    rows = "1;s-1;;;5;;Успешно", "2;s-1;;;6;;Отказ", "3;s-1;;;x;;Отказ", "4;s-1;;;7;;Оплачено"

    report = shop.report(shop.save(*rows), "--only", "успешно", "--only", "Оплачено")

    assert (report["passed_over"], report["bad"]) == (2, 0)
    assert shop.tables.deals() == ["1", "4"]


def test_columns_and_goal_are_as_the_owner_says(shop: Shop) -> None:
    """The guess took the plan for the money."""
    path = shop.save("s-1;100;5", header="session_id;Бюджет;Поступило")

    report = shop.report(path, "--column", "goal_value=Поступило", "--goal", "history")

    assert report["columns"] == {"session_id": ["session_id"], "goal_value": ["Поступило"]}
    goal = shop.tables.goals("s-1")[0]
    assert (goal["goal"], goal["value"]) == ("history", 5)


def test_nobody_to_ask_records_nothing(shop: Shop) -> None:
    """A script that forgot --yes must notice."""
    before = shop.everything()

    done = shop.run(shop.save("1;s-1;;;5;;"))

    assert done.returncode == 1
    assert "run it again with --yes" in done.stdout
    assert shop.everything() == before


def at_terminal(shop: Shop, path: Path, answer: str) -> str:
    """Run the command with a person at the terminal, and return what they saw and answered."""
    ours, theirs = os.openpty()
    os.write(ours, answer.encode())
    done = subprocess.run(
        [sys.executable, "-m", "closedloop", "import", str(path), "--data-dir", str(shop.folder / "data")],
        env=child_environment(shop.url),
        stdin=theirs,
        capture_output=True,
        text=True,
        check=True,
    )
    os.close(theirs)
    os.close(ours)
    return done.stdout


@pytest.mark.parametrize(("answer", "deals"), [("n\n", []), ("\n", []), ("y\n", ["1"])])
def test_person_at_the_terminal_is_asked(shop: Shop, answer: str, deals: list[str]) -> None:
    """Whoever only wanted to look presses Enter."""
    said = at_terminal(shop, shop.save("1;s-1;;;5;;"), answer)

    assert "Rows to record: 1. Record them? [y/N]" in said
    assert shop.tables.deals() == deals


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--column", "sum=Сумма"], 2, "write KEY=NAME"),
        (["--column", "goal_value"], 2, "write KEY=NAME"),
        (["--column", "goal_value=Оплата"], 1, "it has: ID, session_id"),
        (["--site", "y"], 1, "there is no site y"),
    ],
)
def test_wrong_use_is_one_sentence(shop: Shop, arguments: list[str], code: int, said: str) -> None:
    """The names of columns are long, and typed by hand."""
    done = shop.run(shop.save("1;s-1;;;5;;"), *arguments)

    assert done.returncode == code
    assert said in done.stderr


def test_stage_without_a_column_is_refused(shop: Shop) -> None:
    """Else no row at all would count, or every one."""
    done = shop.run(shop.save("1;s-1", header="ID;session_id"), "--only", "Успешно")

    assert (done.returncode, "--column status=NAME" in done.stderr) == (1, True)


def test_row_that_the_database_refuses_does_not_stop_the_others(shop: Shop) -> None:
    """A trigger of the owner's has its own mind about one of the rows."""
    with psycopg.connect(shop.url, autocommit=True) as conn:
        conn.execute("alter table closedloop.conversion add check (deal_id <> '2')")

    done = shop.run(shop.save("1;s-1;;;5;;", "2;s-1;;;6;;", "3;s-1;;;7;;"), *RUN)

    report = json.loads(done.stdout)
    assert done.returncode == 1
    assert [row["row"] for row in report["bad_rows"]] == [3]
    assert shop.tables.deals() == ["1", "3"]
