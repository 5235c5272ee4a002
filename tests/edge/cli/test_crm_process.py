"""What the commands over CRMs share says what is wrong, and shows strangers' texts harmlessly."""

import pytest

from closedloop.edge.cli.crm_process import print_table, progress_bar
from fix_deployment import Deployment
from fix_tools import free_port

pytestmark = pytest.mark.migrated


def test_database_that_is_away_is_said(deployment: Deployment) -> None:
    """Exit code 1 and no trace."""
    deployment.configure(deployment.bitrix24)
    deployment.environment["DATABASE_URL"] = f"postgresql://nobody@127.0.0.1:{free_port()}/none"

    done = deployment.run("sweep")

    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("closedloop: ")


def test_table_commands_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """A reason may quote what a stranger sent."""
    print_table(("what",), [("\x1b[31mred [bold]x[/]",)])

    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "[bold]x[/]" in printed


def test_bar_is_silent_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    """JSON is all that they get."""
    with progress_bar("bitrix24", quiet=True) as show:
        show(1, 2)

    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "")
