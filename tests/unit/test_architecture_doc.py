"""The pages for those who change the code, against it: the packages, the files and the commands they name."""

import re
import shutil
import sysconfig
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

import pytest

from unit.test_architecture import APP, ROWS

ROOT = APP.parent
ARCHITECTURE, CONTRIBUTING = "docs/architecture.md", "CONTRIBUTING.md"
AGENTS, SECURITY = "AGENTS.md", "SECURITY.md"
WALKS = 3

#: A word of code that is a path from the root, `{a,b}` as in a shell; a test's name may stand behind it.
_PATH = re.compile(r"(?P<path>[\w.][\w.{},/-]*)(?:::\w+)?")
_FILE = re.compile(r"\.(?:py|md|toml|lock|ya?ml|json|m?js|tsx?)$")


def text(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


# The table of packages


def table() -> list[tuple[int, str]]:
    """Row and package of each line, as they are written."""
    section = text(ARCHITECTURE).partition("\n## Packages\n")[2].partition("\n## ")[0]
    lines = re.findall(r"^\| (\d+) \| `([^`]+)` \| \S.+ \|$", section, re.MULTILINE)
    return [(int(row), package) for row, package in lines]


def test_the_table_has_the_packages_of_the_code_in_their_rows() -> None:
    written = [(row, package.removesuffix("/").removesuffix(".py")) for row, package in table()]
    in_code = {(row, package) for row, packages in enumerate(ROWS, 1) for package in packages}
    where = f"{ARCHITECTURE}, Packages, against ROWS of tests/unit/test_architecture.py"
    assert not in_code - set(written), f"{where}: add {sorted(in_code - set(written))}"
    assert not set(written) - in_code, f"{where}: remove {sorted(set(written) - in_code)}"
    rows = [row for row, _ in written]
    assert rows == sorted(rows), f"{where}: put the rows in order"
    assert len(written) == len(in_code), f"{where}: write each package once"


@pytest.mark.parametrize("package", [package for _, package in table()])
def test_a_package_is_written_as_the_folder_or_the_file_that_it_is(package: str) -> None:
    there = APP / package
    fine = there.is_dir() if package.endswith("/") else there.is_file()
    assert fine, f"{ARCHITECTURE}, Packages: `{package}` is no such folder or file of app/"


def test_the_table_for_coding_agents_has_the_same_rows() -> None:
    lines = re.findall(r"^\| (\d) \| (.+) \|$", text(AGENTS), re.MULTILINE)
    written = [
        (int(row), package) for row, packages in lines for package in re.findall(r"`app/([\w./]+)`", packages)
    ]
    assert sorted(written) == sorted(table()), f"{AGENTS}, against the table of {ARCHITECTURE}"


# The files that are named


def expanded(path: str) -> Iterator[str]:
    """`a/{b,c}.py` as the two that it stands for."""
    before, brace, rest = path.partition("{")
    if not brace:
        yield path
        return
    choices, _, after = rest.partition("}")
    for choice in choices.split(","):
        yield from expanded(before + choice + after)


def named(markdown: str) -> Iterator[str]:
    """Every file or folder that stands as code, in a line or in a block."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", markdown, re.MULTILINE | re.DOTALL)
    lines = re.sub(r"^```.*?^```", "", markdown, flags=re.MULTILINE | re.DOTALL)
    for word in chain.from_iterable(code.split() for code in [*blocks, *re.findall(r"`([^`]+)`", lines)]):
        found = _PATH.fullmatch(word)
        if found and not word.startswith(".venv/") and ("/" in word or _FILE.search(found["path"])):
            yield from expanded(found["path"])


def walks() -> dict[str, str]:
    sections = re.findall(
        r"^## (Walk \d): [^\n]*\n(.*?)(?=^## |\Z)", text(ARCHITECTURE), re.MULTILINE | re.DOTALL
    )
    return dict(sections)


SECTIONS = {
    **{f"{ARCHITECTURE}, {walk}": section for walk, section in walks().items()},
    **{page: text(page) for page in (CONTRIBUTING, AGENTS, SECURITY)},
}
NAMED = sorted({(place, path) for place, section in SECTIONS.items() for path in named(section)})


def test_there_are_files_to_look_for_in_every_walk_and_in_the_guide() -> None:
    assert len(walks()) == WALKS
    for place in SECTIONS:
        assert sum(where == place for where, _ in NAMED) >= WALKS, place


@pytest.mark.parametrize(("place", "path"), NAMED)
def test_a_file_that_is_named_exists(place: str, path: str) -> None:
    there = ROOT / path
    fine = there.is_dir() if path.endswith("/") else there.exists()
    assert fine, f"{place} names `{path}`, which does not exist{hint(path)}"


# The commands that are named


COMMANDS = sorted(
    {
        (page, command)
        for page in (CONTRIBUTING, AGENTS)
        for command in re.findall(r"uv run (?:--locked )?((?:python -m )?[\w./-]+)", text(page))
    }
)


def test_there_are_commands_to_look_for() -> None:
    for page in (CONTRIBUTING, AGENTS):
        assert sum(where == page for where, _ in COMMANDS) >= WALKS, page


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_a_command_that_is_named_exists(page: str, command: str) -> None:
    program, _, module = command.partition(" -m ")
    there = find_spec(module) if module else shutil.which(program, path=sysconfig.get_path("scripts"))
    assert there, f"{page} names `uv run {command}`, which does not exist"


def hint(path: str) -> str:
    top, name = path.partition("/")[0], Path(path).name
    same = [found.relative_to(ROOT).as_posix() for found in (ROOT / top).rglob(name)] if "/" in path else []
    return f"; it may be {' or '.join(sorted(same))} now" if same else "; name the file that does this now"
