"""The order of the packages in app/, and where each library may be imported."""

import ast
from pathlib import Path

import pytest

APP = Path(__file__).parents[2] / "app"

#: A package or module imports only from rows above its own; docs/architecture.md prints the same table.
ROWS = (
    {"lifecycle", "clock", "errors", "posts", "tasks"},
    {"config", "logs", "state"},
    {"metrics", "database"},
    {"livekit", "alerts", "events", "migrations"},
    {"control", "dashboard", "tracing"},
    {"service"},
    {"web"},
    {"cli"},
    {"__main__"},
)

#: Where a library that leaves its mark on the code may be imported; a folder stands for all that is in it.
HOMES = {
    "sqlalchemy": {"database", "migrations"},
    "alembic": {"database", "migrations"},
    "livekit": {"livekit", "web/tokens.py", "cli/doctor"},
    "google.protobuf": {"livekit", "web/tokens.py"},
    "jwt": {"livekit"},
    "cryptography": {"control/memory_cipher.py"},
    "itsdangerous": {"web"},
    "standardwebhooks": {"events"},
    "aiohttp.web": {"web", "__main__.py"},
    "aiohttp_sse": {"web"},
    "opentelemetry": {"tracing"},
    "time": {"clock.py"},
    "os": {"__main__.py", "logs", "migrations/env.py"},
}

#: What makes a task that nobody may await, so that its failure would be noticed by nobody.
MAKERS_OF_TASKS = {"create_task", "ensure_future", "TaskGroup", "run_coroutine_threadsafe"}
#: Modules that make tasks themselves, each with who awaits them.
AWAITED = {
    "control/flights.py": "every caller that joined the flight, who gets its error",
    "control/worker_reports.py": "every worker whose report is stored by it, which gets its error",
}

SOURCES = {path.relative_to(APP).as_posix(): path for path in sorted(APP.rglob("*.py"))}


def imports(path: Path) -> set[str]:
    """The modules that one imports; `from a import b` counts as both `a` and `a.b`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            assert node.module is not None
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


IMPORTS = {name: imports(path) for name, path in SOURCES.items()}


def room(name: str) -> str:
    """The package of a file, or the module where it lies at the top."""
    return name.partition("/")[0].removesuffix(".py")


def row(of: str) -> int:
    return next(number for number, names in enumerate(ROWS) if of in names)


def test_every_package_has_its_row() -> None:
    rooms = {room(name) for name in SOURCES} - {"__init__"}
    assert rooms == set().union(*ROWS)
    assert sum(map(len, ROWS)) == len(rooms)


@pytest.mark.parametrize("name", SOURCES)
def test_a_package_imports_only_from_rows_above_its_own(name: str) -> None:
    own = room(name)
    others = {module.split(".")[1] for module in IMPORTS[name] if module.startswith("app.")} - {own}
    wrong = {other for other in others if row(other) >= row(own)}
    assert not wrong, f"{name} is in row {row(own) + 1} and imports {sorted(wrong)}"


@pytest.mark.parametrize("library", HOMES)
def test_a_library_is_imported_at_home_only(library: str) -> None:
    users = {
        name
        for name, imported in IMPORTS.items()
        if any(module == library or module.startswith(f"{library}.") for module in imported)
    }
    assert users, f"nothing imports {library}: the table is out of date"
    homeless = {name for name in users if not any(is_within(name, home) for home in HOMES[library])}
    assert not homeless


def is_within(name: str, home: str) -> bool:
    return name == home or name.startswith(f"{home}/")


def test_the_lifecycle_knows_the_standard_library_only() -> None:
    plain = ("bisect", "collections", "dataclasses", "enum", "hashlib", "itertools", "math", "typing")
    allowed = ("app.lifecycle", *plain)
    package = [name for name in SOURCES if room(name) == "lifecycle"]
    assert all(module.startswith(allowed) for name in package for module in IMPORTS[name])


@pytest.mark.parametrize("name", [name for name, path in SOURCES.items() if path.stat().st_size])
def test_the_first_line_of_a_module_says_what_it_owns(name: str) -> None:
    docstring = ast.get_docstring(ast.parse(SOURCES[name].read_text(encoding="utf-8")))
    assert docstring
    assert docstring.splitlines()[0].endswith((".", ":"))


def names_in(path: Path) -> set[str]:
    """The names and attributes that a module mentions."""
    return {
        node.attr if isinstance(node, ast.Attribute) else node.id
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute | ast.Name)
    }


def test_tasks_are_made_where_their_failures_are_logged() -> None:
    makers = {name for name, path in SOURCES.items() if names_in(path) & MAKERS_OF_TASKS}
    assert makers == {"tasks.py", *AWAITED}


def test_no_module_is_a_drawer_for_odds_and_ends() -> None:
    names = {Path(name).stem for name in SOURCES}
    assert not names & {"utils", "util", "helpers", "common", "misc"}


def test_no_module_is_longer_than_300_lines() -> None:
    long = {name for name, path in SOURCES.items() if len(path.read_text().splitlines()) > 300}
    assert not long
