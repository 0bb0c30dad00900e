"""The examples: each is in the list, and its requirements are what it imports."""

import ast
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from examples.voice_worker.worker import person_in

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
FOLDERS = sorted(path.parent.name for path in EXAMPLES.glob("*/README.md"))
#: A requirement that is a folder of this repository, with the name of its project.
OURS = {"../../client": "agent-lifecycle-client", "../../agent": "reusable-agent"}
#: What a framework brings along, and an app imports from it.
BROUGHT = {"starlette": "fastapi", "pydantic": "fastapi", "livekit": "livekit-agents"}


def test_the_list_has_every_example_and_tests_that_exist() -> None:
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| \[(\w+)\]\(\1/README\.md\)", text, re.MULTILINE) != []
    assert sorted(re.findall(r"^\| \[(\w+)\]\(\1/README\.md\)", text, re.MULTILINE)) == FOLDERS
    for test in re.findall(r"`(tests/[\w/.]+)`", text):
        assert (ROOT / test).is_file(), test


def imported(folder: Path) -> set[str]:
    """The top-level packages that the Python files import; of `livekit`, a namespace, the part as well."""
    found = set()
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.module
                found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names)


@pytest.mark.parametrize(
    "file", sorted(EXAMPLES.glob("*/requirements.txt")), ids=lambda file: file.parent.name
)
def test_the_requirements_have_what_is_imported(file: Path) -> None:
    lines = file.read_text(encoding="utf-8").split()
    required = {OURS.get(line) or re.split("[<>=]", line)[0] for line in lines}
    homes = packages_distributions()
    imports = imported(file.parent)
    assert imports
    for module in imports:
        # A package that is installed from its folder has no files in the index.
        named = {name.lower() for name in homes.get(module, [module.replace("_", "-")])}
        named.add(BROUGHT.get(module, ""))
        assert named & required, f"{module} is of {sorted(named)}, and required are {sorted(required)}"


def test_a_copy_of_what_stands_alone_needs_nothing_else_of_this_repository() -> None:
    """The list names those that do; the others say in their requirements what they need."""
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    (sentence,) = re.findall(r"Each folder has.+?copy them", text, re.DOTALL)
    alone = set(re.findall(r"\((\w+)/README\.md\)", sentence))
    needing = {
        file.parent.name
        for file in EXAMPLES.glob("*/requirements.txt")
        if OURS.keys() & set(file.read_text(encoding="utf-8").split())
    }
    assert alone | needing == set(FOLDERS)
    assert not alone & needing


@pytest.mark.parametrize("metadata", ["", "null", "text", "[1]", '"Alice"', "{}", '{"name": "Alice"}'])
def test_the_worker_with_a_voice_takes_any_metadata(metadata: str) -> None:
    assert person_in(metadata) is None


def test_the_worker_with_a_voice_hears_who_calls() -> None:
    assert person_in('{"person": "Alice"}') == "Alice"
