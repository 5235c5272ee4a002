"""The command line answers wrong use with 2, a failure with 1, and explains itself."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from closedloop import __version__
from closedloop.edge.cli.main import app

COMMANDS = sorted(app.commands)
WRONG_USE = [
    ["nonsense"],
    ["serve", "--nonsense"],
    ["serve", "--port", "http"],
    ["serve", "--port", "65536"],
    ["serve", "--port", "-1"],
    ["serve", "--workers", "0"],
    ["serve", "surplus"],
    ["inspect"],
    ["inspect", "generic"],
    ["demo", "--port", "x"],
    ["bench", "--sessions", "0"],
]


@pytest.mark.parametrize("arguments", WRONG_USE, ids=" ".join)
def test_wrong_use_is_exit_code_two(arguments: list[str]) -> None:
    """A script tells its own mistake from a failure of the server by the code."""
    ended = CliRunner().invoke(app, arguments)

    assert ended.exit_code == 2
    assert "Usage:" in ended.output
    assert "Traceback" not in ended.output


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    """People copy the example; the list of options they read later."""
    shown = CliRunner().invoke(app, [command, "--help"])

    assert shown.exit_code == 0
    assert "Example: " in shown.output
    assert f"closedloop {command}" in shown.output.partition("Example: ")[2].partition("\n\n")[0]


def test_every_option_that_is_shown_is_explained() -> None:
    """An option without a word is a question to us."""
    silent = [
        f"{name} {option.name}"
        for name, command in app.commands.items()
        for option in command.params
        if option.param_type_name == "option" and not getattr(option, "hidden", False)
        if not getattr(option, "help", None)
    ]

    assert silent == []


@pytest.mark.parametrize("asked", ["-h", "--help"])
def test_help_lists_every_command(asked: str) -> None:
    """It is the first thing that a newcomer asks."""
    shown = CliRunner().invoke(app, [asked])

    assert shown.exit_code == 0
    assert [name for name in COMMANDS if f"\n  {name} " not in shown.output] == []


def test_version_is_that_of_the_package() -> None:
    """A report of a defect begins with it."""
    assert CliRunner().invoke(app, ["--version"]).output == f"{__version__}\n"


def test_what_a_person_can_mend_is_a_sentence_not_a_trace(tmp_path: Path) -> None:
    """A trace says to a shop's owner that the program is broken; the sentence says what to do."""
    command = [sys.executable, "-m", "closedloop", "serve", "--config", str(tmp_path / "gone.toml")]

    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)

    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr == f"closedloop: {tmp_path}/gone.toml: cannot be read: No such file or directory\n"
