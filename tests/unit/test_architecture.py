"""The arrows between the modules, as design section 4 draws them."""

import ast
from pathlib import Path

import pytest

APP = Path(__file__).parents[2] / "app"


def _module(path: Path) -> str:
    name = ".".join(("app", *path.relative_to(APP).with_suffix("").parts))
    return name.removesuffix(".__init__")


def _imports(path: Path) -> set[str]:
    """The modules that one imports; `from app import x` counts as both `app` and `app.x`."""
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


SOURCES = {_module(path): path for path in sorted(APP.rglob("*.py"))}
IMPORTS = {module: _imports(path) for module, path in SOURCES.items()}


def _ours(module: str) -> set[str]:
    return {name for name in IMPORTS[module] if name in SOURCES and name not in ("app", module)}


def _knows(library: str) -> set[str]:
    return {
        module
        for module, imported in IMPORTS.items()
        if any(name == library or name.startswith(f"{library}.") for name in imported)
    }


def test_the_lifecycle_knows_nothing_of_ours() -> None:
    package = {module for module in SOURCES if module.startswith("app.lifecycle")}
    assert {name for module in package for name in _ours(module)} <= package


def test_the_lifecycle_knows_no_library() -> None:
    allowed = {"collections.abc", "dataclasses", "enum"}
    for module in SOURCES:
        if module.startswith("app.lifecycle"):
            roots = {name for name in IMPORTS[module] if not name.startswith("app")}
            assert all(name.startswith(tuple(allowed)) for name in roots), module


@pytest.mark.parametrize(
    ("library", "modules"),
    [
        (
            "sqlalchemy",
            {
                "models",
                "store",
                "batch",
                "batch_sql",
                "engine",
                "file_threads",
                "migrate",
                "outage",
                "transactions",
                "transfer",
            },
        ),
        ("alembic", {"migrate"}),
        ("livekit", {"livekit_client", "webhooks", "tokens", "doctor.livekit"}),
        ("google.protobuf", {"tokens"}),
        (
            "aiohttp",
            {
                *(
                    "web",
                    "handlers",
                    "errors",
                    "cors",
                    "demo",
                    "session_cookie",
                    "livekit_client",
                    "__main__",
                ),
                *("access_log", "http_metrics", "alert_post", "ingest"),
                *("dashboard.gate", "dashboard.page", "dashboard.routes"),
                *("request_id", "security_headers", "reception", "endpoints", "connections", "docs"),
                # What asks over HTTP, as a caller does.
                *(f"doctor.{name}" for name in ("patient", "examination", "livekit", "network", "delivery")),
                "status",
            },
        ),
        ("aiohttp_sse", {"dashboard.routes"}),
        ("jwt", {"claims"}),
        ("itsdangerous", {"signing"}),
        ("time", {"clock"}),
        ("os", {"__main__", "logs.output"}),
    ],
)
def test_only_the_edges_know_a_library(library: str, modules: set[str]) -> None:
    assert _knows(library) <= {f"app.{name}" for name in modules}


def test_the_arrows_between_modules_make_no_circle() -> None:
    done: set[str] = set()
    left = dict.fromkeys(SOURCES)
    while left:
        free = [module for module in left if _ours(module) - {"app"} <= done | _package(module)]
        assert free, f"a circle among {sorted(left)}"
        done |= set(free)
        for module in free:
            del left[module]


def _package(module: str) -> set[str]:
    """A package's face imports its parts, and each part names the package."""
    return {"app.lifecycle"} if module.startswith("app.lifecycle") else set()


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("handlers", {"store", "livekit", "timers", "ledger", "writer"}),
        ("ledger", {"store", "batch", "livekit", "timers", "writer", "tracker"}),
        ("docket", {"store", "batch", "livekit", "timers", "writer", "ledger"}),
        ("store", {"livekit", "writer", "tracker", "dispatches"}),
        ("livekit", {"store", "writer", "tracker", "dispatches", "evidence"}),
        ("alerts", {"store", "tally", "clock", "tracker", "metrics", "alert_watch", "alert_post"}),
        ("alert_rules", {"store", "tally", "clock", "tracker", "metrics", "alert_watch", "alert_post"}),
        ("tally", {"store", "tracker", "metrics", "livekit", "dispatches"}),
        ("webhooks", {"store", "tracker", "dispatches", "handlers"}),
        ("dispatches", {"handlers", "web", "cleanup", "reconcile", "schemas"}),
    ],
)
def test_nothing_reaches_over_its_neighbours(module: str, forbidden: set[str]) -> None:
    assert not _ours(f"app.{module}") & {f"app.{name}" for name in forbidden}


@pytest.mark.parametrize("module", [module for module in SOURCES if module != "app"])
def test_each_module_says_in_its_first_line_what_it_owns(module: str) -> None:
    docstring = ast.get_docstring(ast.parse(SOURCES[module].read_text(encoding="utf-8")))
    assert docstring
    assert docstring.splitlines()[0].endswith((".", ":"))


def test_no_module_is_a_drawer_for_odds_and_ends() -> None:
    names = {module.rpartition(".")[2] for module in SOURCES}
    assert not names & {"utils", "util", "helpers", "common", "misc"}
