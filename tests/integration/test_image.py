"""The Dockerfile's steps, carried out without docker: what comes of them serves, on a read-only root."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import IO

import pytest

from devstack.ports import free_port
from fakes.dockerfile import Builder, Stage
from integration.harness import KEYPAIR

ROOT = Path(__file__).parents[2]
_BOUND_S = 60.0


def is_for_all(program: Path) -> bool:
    """Whether any user may run it; one in a home folder is its owner's."""
    return all(place.stat().st_mode & 0o001 for place in (program, *program.parents))


#: What stands for the base image's.
_VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
_PYTHONS = (
    Path("/usr/local/bin", _VERSION),
    Path("/usr/bin", _VERSION),
    Path(sys.executable).resolve(),
)
PYTHON = next(
    python.resolve()
    for python in _PYTHONS
    if python.exists() and (is_for_all(python.resolve()) or python is _PYTHONS[-1])
)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not pytest's, which nobody but its owner may look into."""
    folder = Path(tempfile.mkdtemp(prefix="lifecycle-image-"))
    folder.chmod(0o755)
    yield folder
    for place in folder.rglob("*"):
        if place.is_dir() and not place.is_symlink():
            place.chmod(0o755)
    shutil.rmtree(folder)


@pytest.fixture
def livekit_url() -> Iterator[str]:
    """A LiveKit without rooms, as far as the service asks it."""

    class Empty(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Type", "application/protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Empty) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"ws://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def start(stage: Stage, command: list[str], log: IO[bytes], **environ: str) -> subprocess.Popen[bytes]:
    """What docker would run, by the user that the image names, where there is a choice of users."""
    uid, gid = map(int, stage.user.split(":"))
    may_choose = os.geteuid() == 0 and is_for_all(PYTHON)
    return subprocess.Popen(  # noqa: S603 - the Dockerfile is ours
        [str(stage.place(".venv/bin") / command[0]), *command[1:]],
        cwd=stage.place("."),
        env=stage.outer_environ() | environ | {"PYTHONFAULTHANDLER": "1"},
        stdout=log,
        stderr=subprocess.STDOUT,
        user=uid if may_choose else None,
        group=gid if may_choose else None,
        extra_groups=[] if may_choose else None,
    )


def wait_until(happened: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _BOUND_S
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        if happened():
            return
        time.sleep(0.1)
    # With PYTHONFAULTHANDLER it says where each of its threads is.
    process.send_signal(signal.SIGABRT)
    process.wait()
    pytest.fail(f"it did not happen in time: {log.read_text()}")


def is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5):  # noqa: S310 - our own address
            return True
    except (urllib.error.URLError, OSError):
        return False


def build(target: str, folder: Path) -> Stage:
    """The stage, without a right to write anywhere but in its data."""
    uv = shutil.which("uv", path=f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}")
    assert uv
    stage = Builder(ROOT, folder, PYTHON, {"uv": Path(uv)}).build(target)
    assert not stage.user.startswith(("root", "0"))
    for place in stage.root.rglob("*"):
        if not place.is_symlink() and place != stage.place("data"):
            place.chmod(place.stat().st_mode & ~0o222)
    assert not any(name.endswith("site-packages/pytest") for name in files(stage.root))
    return stage


def test_the_image_serves_as_nobody_on_a_read_only_root(
    folder: Path, livekit_url: str, tmp_path: Path
) -> None:
    stage = build("service", folder)
    before = files(stage.root)

    port, log = str(free_port()), tmp_path / "log"
    environ = {
        "PORT": port,
        "LIVEKIT_URL": livekit_url,
        "LIVEKIT_API_KEY": KEYPAIR.key,
        "LIVEKIT_API_SECRET": KEYPAIR.secret,
        "AGENT_NAME": "agent",
        # Without the extra in the image it would not start. Nobody is there to take a span.
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
    }
    with log.open("wb") as output:
        process = start(stage, stage.command, output, **environ)
        try:
            wait_until(lambda: is_ready(f"http://127.0.0.1:{port}"), process, log)
            check = start(stage, stage.healthcheck, output, PORT=port)
            assert check.wait(_BOUND_S) == 0, log.read_text()
            process.send_signal(signal.Signals[stage.stop_signal])
            assert process.wait(_BOUND_S) == 0
            check = start(stage, stage.healthcheck, output, PORT=port)
            assert check.wait(_BOUND_S) == 1
        finally:
            process.kill()
            process.wait()

    assert files(stage.root) - before == {
        "srv/data/lifecycle.db",
        "srv/data/lifecycle.db.lock",
    }


def test_the_worker_image_starts_as_nobody_on_a_read_only_root(folder: Path, tmp_path: Path) -> None:
    """As far as calling LiveKit, which is not there."""
    stage = build("worker", folder)
    before = files(stage.root)

    log, home = tmp_path / "log", folder / "home"
    # compose.yaml gives it this one in memory.
    home.mkdir()
    home.chmod(0o777)
    environ = {
        "LIVEKIT_URL": f"ws://127.0.0.1:{free_port()}",
        "LIVEKIT_API_KEY": KEYPAIR.key,
        "LIVEKIT_API_SECRET": KEYPAIR.secret,
        "HOME": str(home),
    }
    with log.open("wb") as output:
        process = start(stage, stage.command, output, **environ)
        try:
            wait_until(lambda: b"failed to connect to livekit" in log.read_bytes(), process, log)
        finally:
            process.kill()
            process.wait()

    assert files(stage.root) == before
