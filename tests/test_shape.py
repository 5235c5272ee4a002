"""The house rules that no tool checks: sizes, mirrors, who reads the environment, what no file may hold."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "closedloop"
TESTS = ROOT / "tests"

MAX_FILE_LINES = 400
MAX_BODY_LINES = 50
MAX_SCRIPT_LINES = 15

# Modules with functions that have no test file of their own, each with the reason.
NO_MIRROR = {
    f"src/closedloop/edge/cli/{part}.py": f"a part of one command, tested whole: test_{part.split('_')[0]}.py"
    for part in (
        *("bench_data", "bench_hits", "bench_load", "bench_process"),
        *("bench_progress", "bench_run", "bench_table"),
        *("demo_rows", "demo_server", "demo_story"),
        *("import_deals", "import_record", "import_rows", "import_show"),
    )
} | {"src/closedloop/parse/base.py": "it names contracts and has no code"}

# Scripts that may be longer, each with the reason.
LONG_SCRIPTS = {
    "setup": "it works before anything of ours is there to call: finds a Python, locks, may be interrupted",
    "tools": "it works for users without root, who cannot install packages",
}

# What a clone has and git does not know; listed, since a bare machine has no git to ask.
UNTRACKED = {
    ".git", ".venv", ".tools", "data", "dist", "build", "__pycache__",
    ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", ".import_linter_cache",
}  # fmt: skip

# In pieces, because this file is searched too.
REGISTRIES = [
    "pypi" + ".org",
    "python" + "hosted",
    "registry." + "npmjs",
    "deb." + "debian",
    "index" + "-url =",
]
HOMES = re.compile(rb"(?<![\w.}$/-])/(?:root|work|home/\w+|Users/\w+)/")


def tree(folder: Path = ROOT) -> Iterator[Path]:
    """Yield the files that a clone has, in order of their names."""
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            if path.name not in UNTRACKED and path.suffix != ".egg-info":
                yield from tree(path)
        elif path.is_file():
            yield path


def named(path: Path) -> str:
    """Return a file's name from the root of the repository."""
    return path.relative_to(ROOT).as_posix()


def python_files() -> list[Path]:
    """Return the source files of the product and of its tests."""
    return [path for folder in (PACKAGE, TESTS) for path in tree(folder) if path.suffix == ".py"]


def functions_of(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Return all functions of a file, inner ones too."""
    nodes = ast.walk(ast.parse(path.read_text()))
    return [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return how many lines a function's body has, its docstring left out."""
    statements = function.body[1:] if ast.get_docstring(function) else function.body
    return (function.end_lineno or 0) - statements[0].lineno + 1 if statements else 0


def pins(name: str) -> set[str]:
    """Return the `name==version` lines of a file of requirements."""
    return set(re.findall(r"^[a-z0-9.-]+==\S+", (ROOT / "requirements" / name).read_text(), re.MULTILINE))


def names_of(requirements: list[str]) -> set[str]:
    """Return the normalized names that requirements as `psycopg[binary,pool]>=3` ask for."""
    found = [re.match(r"[\w.-]+", requirement) for requirement in requirements]
    return {re.sub(r"[-_.]+", "-", match[0]).lower() for match in found if match}


def test_no_file_is_longer_than_a_person_reads() -> None:
    """Files of thousands of lines are where everything lands; raising the limit is a decision record."""
    too_long = [named(path) for path in python_files() if path.read_text().count("\n") > MAX_FILE_LINES]

    assert too_long == []


def test_no_function_is_longer_than_a_screen() -> None:
    """A function that does not fit on a screen is not reviewed, only scrolled."""
    too_long = [
        f"{named(path)}:{function.lineno} {function.name}"
        for path in python_files()
        for function in functions_of(path)
        if body_lines(function) > MAX_BODY_LINES
    ]

    assert too_long == []


def test_environment_is_read_in_config_only() -> None:
    """Users find every setting in one list, because there is one place that reads them."""
    readers = [
        f"{named(path)}:{node.lineno}"
        for path in tree(PACKAGE)
        if path.suffix == ".py" and path != PACKAGE / "config.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute | ast.alias)
        and (node.attr if isinstance(node, ast.Attribute) else node.name) in {"environ", "environb", "getenv"}
    ]

    assert readers == []


def test_every_module_with_functions_has_its_test_file() -> None:
    """Whoever changes a module finds its tests by its name."""
    expected = {
        named(path): TESTS / path.relative_to(PACKAGE).with_name(f"test_{path.name}")
        for path in tree(PACKAGE)
        if path.suffix == ".py" and functions_of(path) and named(path) not in NO_MIRROR
    }

    assert [f"{source} wants {named(test)}" for source, test in expected.items() if not test.exists()] == []


def test_every_exception_from_the_mirror_is_still_needed() -> None:
    """A reason that outlived its module would excuse the next one."""
    assert [name for name in NO_MIRROR if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("registry", REGISTRIES)
def test_no_file_names_a_registry(registry: str) -> None:
    """Everyone installs from where their own machine is told to, and a mirror's name is nobody's business."""
    found = [named(path) for path in tree() if registry.encode() in path.read_bytes()]

    assert found == []


def test_no_file_names_a_home_folder() -> None:
    """A path of one person's machine is broken on every other."""
    found = [named(path) for path in tree() if HOMES.search(path.read_bytes())]

    assert found == []


def test_scripts_are_short_or_have_a_reason() -> None:
    """CI calls scripts and nothing else, so they are read as its definition."""
    scripts = [*(ROOT / "scripts").iterdir(), ROOT / "serve", ROOT / "test", ROOT / ".ci" / "run"]
    lines = {path.name: [line for line in path.read_text().splitlines() if line.strip()] for path in scripts}
    code = {name: [line for line in every if not line.startswith("#")] for name, every in lines.items()}

    assert {name for name, every in code.items() if len(every) > MAX_SCRIPT_LINES} == set(LONG_SCRIPTS)


def test_pinned_packages_are_those_that_are_declared() -> None:
    """scripts/lock was forgotten, and a fresh clone lacks a package that this machine has."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    runtime, everything = pins("runtime.txt"), pins("dev.txt")

    assert names_of(project["project"]["dependencies"]) <= names_of(list(runtime))
    assert names_of(project["dependency-groups"]["dev"]) <= names_of(list(everything))
    assert runtime <= everything
