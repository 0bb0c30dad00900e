"""Demo page build: builds it from web/ when it is missing or older than its sources."""

from collections.abc import Iterator
from pathlib import Path

from devstack.cache import Report
from devstack.npm import installed

WEB = Path(__file__).resolve().parent.parent / "web"
#: Everything that the build reads, besides what npm installs from the lock file.
_SOURCES = ("src", "demo", "package.json", "package-lock.json", "tsconfig.json", "vite.config.ts")


def ensure_demo_assets(report: Report = print, *, folder: Path = WEB) -> None:
    """Build the demo page unless the build is newer than its sources; without web/, do nothing.

    Raises:
        NpmError: the build failed.
    """
    if not (folder / "package.json").exists() or _is_built(folder):
        return
    with installed(folder, report) as npm:
        if not _is_built(folder):
            report("building the demo page")
            npm.run("run", "--silent", "demo:build")


def _is_built(folder: Path) -> bool:
    page = folder / "demo" / "dist" / "index.html"
    return page.exists() and page.stat().st_mtime >= max(path.stat().st_mtime for path in _sources(folder))


def _sources(folder: Path) -> Iterator[Path]:
    built = folder / "demo" / "dist"
    for name in _SOURCES:
        path = folder / name
        yield path
        for found in path.rglob("*"):
            if built not in (found, *found.parents):
                yield found
