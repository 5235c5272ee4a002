"""The wheel, as a user has it: installed by itself, away from this repository."""

import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

import pytest

from fix_tools import REPOSITORY


def run(*command: Path | str, cwd: Path) -> str:
    """Return what a command printed; a failure shows all of it."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the wheel, built from this tree with the tools of this environment."""
    folder = tmp_path_factory.mktemp("wheel")
    run(
        sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, REPOSITORY, cwd=folder
    )
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of programs of an environment that has only the wheel and what it asks for."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=True)
    pip: list[Path | str] = [
        folder / "bin" / "python",
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--no-input",
    ]
    pinned = REPOSITORY / "requirements" / "runtime.txt"
    run(*pip, "install", "--no-deps", "--require-hashes", "--requirement", pinned, cwd=folder)
    run(*pip, "install", "--no-deps", wheel, cwd=folder)
    run(*pip, "check", cwd=folder)
    return folder / "bin"


def test_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    """A template or a migration that stays behind is missed only in production."""
    source = REPOSITORY / "src"
    files = {path for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts}

    missing = {path.relative_to(source).as_posix() for path in files} - set(zipfile.ZipFile(wheel).namelist())

    assert missing == set()


def test_wheel_knows_its_version(programs: Path) -> None:
    """Support begins with this number."""
    printed = run(programs / "closedloop", "--version", cwd=programs)

    assert printed.strip()


def test_wheel_alone_runs_the_demo(programs: Path, tmp_path: Path, scratch: Path) -> None:
    """What a user sees first after `pip install` is the whole way from a visit to a delivery."""
    folder = Path(tempfile.mkdtemp(dir=scratch))  # which the embedded server's own user may reach

    run(programs / "closedloop", "demo", "--once", "--data-dir", folder / "data", cwd=tmp_path)
