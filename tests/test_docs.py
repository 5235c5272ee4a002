"""The papers tell the truth: links lead somewhere, both READMEs say the same, commands and tests exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from closedloop.config import read_sites

ROOT = Path(__file__).resolve().parent.parent
PAPERS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("tests/recorded/*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)


def text_of(name: str) -> str:
    """Return a paper of the repository's root."""
    return (ROOT / name).read_text(encoding="utf-8")


def prose(text: str) -> str:
    """Return a paper without its code, where brackets mean something else."""
    return re.sub(r"`[^`\n]*`", "", CODE.sub("", text))


def anchor(heading: str) -> str:
    """Return the name under which a heading is linked to."""
    return re.sub(r"[^\w\s-]", "", heading.lower()).strip().replace(" ", "-")


def anchors(path: Path) -> set[str]:
    """Return the names of all headings of a paper."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {anchor(re.sub(r"[`*]", "", heading)) for heading in headings}


@pytest.mark.parametrize("paper", PAPERS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_to_something(paper: Path) -> None:
    """A dead link is the first thing that a newcomer learns about the care of the rest."""
    dead: list[str] = []

    for link in LINK.findall(prose(paper.read_text(encoding="utf-8"))):
        place, _, part = link.partition("#")
        target = (paper.parent / place).resolve() if place else paper
        if link.startswith(("http:", "https:")):
            continue
        if not target.exists() or (part and target.suffix == ".md" and part not in anchors(target)):
            dead.append(link)

    assert dead == []


def test_both_readmes_have_the_same_parts() -> None:
    """A site owner reads the Russian one, and must not read about another product."""
    english, russian = text_of("README.md"), text_of("README.ru.md")

    levels = [re.findall(r"^(#+) ", CODE.sub("", text), re.MULTILINE) for text in (english, russian)]
    rows = [len(re.findall(r"^\|", text, re.MULTILINE)) for text in (english, russian)]

    assert levels[0] == levels[1]
    assert rows[0] == rows[1]


def test_both_readmes_have_the_same_commands() -> None:
    """A command that stands in one only is one that nobody tried."""
    commands = [
        [re.sub(r" *#.*", "", line) for language, code in CODE.findall(text) if language == "bash"
         for line in code.splitlines()]
        for text in (text_of("README.md"), text_of("README.ru.md"))
    ]  # fmt: skip

    assert commands[0] == commands[1]


def test_readme_stays_short() -> None:
    """It is the first page, not the manual."""
    assert len(text_of("README.md").splitlines()) < 250


@pytest.mark.parametrize("paper", ["README.md", "README.ru.md", "docs/ru/supabase.md", "CONTRIBUTING.md"])
def test_commands_exist(paper: str) -> None:
    """Whoever copies a command gets what the paper says, not an error."""
    known = subprocess.run(
        [sys.executable, "-m", "closedloop", "--help"], capture_output=True, text=True, check=True
    ).stdout

    named = set(
        re.findall(r"closedloop (\w+)(?= |`|\n|$)", "\n".join(re.findall(r"`[^`]+`", text_of(paper))))
    )
    named |= set(re.findall(r"\.venv/bin/closedloop (\w+)", text_of(paper)))

    assert named
    assert {name for name in named if not re.search(rf"^\W*{name}\s", known, re.MULTILINE)} == set()


@pytest.mark.parametrize("paper", sorted(ROOT.glob("docs/ru/*.md")), ids=lambda path: path.name)
def test_settings_of_a_guide_are_accepted(paper: Path, tmp_path: Path) -> None:
    """Whoever copies settings from a guide is no programmer, and cannot tell our mistake from theirs."""
    blocks = [
        code for language, code in CODE.findall(paper.read_text(encoding="utf-8")) if language == "toml"
    ]
    names = re.findall(r"env:(\w+)", "".join(blocks))

    for block in blocks:
        (tmp_path / "closedloop.toml").write_text(block, encoding="utf-8")
        read_sites(tmp_path / "closedloop.toml", dict.fromkeys(names, "https://portal.example/rest/"))


def test_promises_name_tests_that_exist() -> None:
    """A promise without its test is an advertisement."""
    tests = re.findall(r"\((tests/[\w/]+\.py)\)", text_of("README.md"))

    assert len(tests) > 10
    assert [name for name in tests if not (ROOT / name).is_file()] == []
