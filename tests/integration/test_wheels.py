"""The wheels as an outsider gets them: what they hold and say, and that they run where nothing else is."""

import os
import shutil
import subprocess
import sys
import zipfile
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

import pytest

from integration.process import run, running

ROOT = Path(__file__).parents[2]
#: The folder of each package that is published, and the one package that its wheel installs.
PUBLISHED = {".": "app", "agent": "reusable_agent", "client": "agent_lifecycle_client"}
#: Nobody listens on port 1.
CALLS = """
import asyncio
from agent_lifecycle_client import AsyncClient, Client, ServiceUnreachable

async def ask():
    async with AsyncClient("http://127.0.0.1:1", "key", attempts=1) as client:
        await client.show_health()

with Client("http://127.0.0.1:1", "key", attempts=1) as client:
    for call in (client.show_health, lambda: asyncio.run(ask())):
        try:
            call()
        except ServiceUnreachable as error:
            print(error)
"""


def _uv() -> str:
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert uv, "the README's commands install uv beside Python"
    return uv


UV = _uv()


def build(folder: str, target: Path) -> Path:
    command = [UV, "build", "--quiet", "--wheel", "--out-dir", str(target), str(ROOT / folder)]
    subprocess.run(command, check=True, timeout=120)  # noqa: S603 - ours
    (wheel,) = target.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {folder: build(folder, tmp_path_factory.mktemp("wheel")) for folder in PUBLISHED}


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, and an empty home; downloads alone are kept from before."""
    asked = [UV, "cache", "dir"]
    said = subprocess.run(asked, check=True, capture_output=True, text=True)  # noqa: S603 - ours
    work, home = tmp_path / "work", tmp_path / "home"
    work.mkdir()
    home.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("UV_CACHE_DIR", said.stdout.strip())
    for name in ("VIRTUAL_ENV", "PYTHONPATH", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    return work


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return HeaderParser().parsestr(archive.read(name).decode())


@pytest.mark.parametrize(("folder", "package"), PUBLISHED.items())
def test_a_wheel_installs_its_one_package(wheels: dict[str, Path], folder: str, package: str) -> None:
    tops = {name.partition("/")[0] for name in names(wheels[folder])}
    assert {top for top in tops if not top.endswith(".dist-info")} == {package}


@pytest.mark.parametrize("folder", PUBLISHED)
def test_a_wheel_says_what_it_is(wheels: dict[str, Path], folder: str) -> None:
    said = metadata(wheels[folder])
    assert said["License-Expression"] == "Apache-2.0"
    assert said["License-File"] == "LICENSE"
    assert (ROOT / folder / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    assert said["Author"]
    assert said["Description-Content-Type"] == "text/markdown"
    assert said.get_payload() == (ROOT / folder / "README.md").read_text()
    assert said.get_all("Project-URL")
    pythons = {one for one in said.get_all("Classifier", ()) if "Python :: 3." in one}
    assert "Programming Language :: Python :: 3.11" in pythons


def test_the_migrations_travel_inside(wheels: dict[str, Path]) -> None:
    scripts = {path.relative_to(ROOT).as_posix() for path in (ROOT / "app/migrations").rglob("*.py")}
    assert len(scripts) > 2
    assert scripts <= names(wheels["."])


async def test_uvx_serves_from_the_wheel_alone(wheels: dict[str, Path], nowhere: Path) -> None:
    program = (UV, "tool", "run", "--python", sys.executable, "--from", str(wheels["."]), "agent-lifecycle")
    async with running(program=(*program, "serve")) as service:
        assert await service.get("/healthz") == 200
        # The API's own page has files that come from another package.
        assert await service.get("/docs") == 200
        policy = await run("policy", program=program)
        assert (policy.code, policy.err) == (0, "")
        backup = await run("backup", "--to", "backup.db", program=program)
        assert backup.code == 0, backup.err
    assert {"data", "backup.db"} <= files(nowhere)


async def test_traces_need_the_extra_of_the_wheel(wheels: dict[str, Path], nowhere: Path) -> None:
    tool, traces = (UV, "tool", "run", "--python", sys.executable, "--from"), "http://127.0.0.1:1"
    bare = (*tool, str(wheels["."]), "agent-lifecycle")
    refused = await run("serve", program=bare, OTEL_EXPORTER_OTLP_ENDPOINT=traces)
    assert refused.code == 2
    assert "pip install 'agent-lifecycle[otel]'" in refused.err
    whole = (*tool, f"agent-lifecycle[otel] @ {wheels['.'].as_uri()}", "agent-lifecycle", "serve")
    async with running(program=whole, OTEL_EXPORTER_OTLP_ENDPOINT=traces) as service:
        assert await service.get("/api/livekit/agents") == 200
    assert files(nowhere) == {"data"}


async def test_pipx_runs_the_wheel(wheels: dict[str, Path], nowhere: Path) -> None:
    pipx = (UV, "tool", "run", "pipx", "run", "--python", sys.executable, "--spec", str(wheels["."]))
    said = await run("--version", program=(*pipx, "agent-lifecycle"))
    assert (said.code, said.out) == (0, f"agent-lifecycle {metadata(wheels['.'])['Version']}\n"), said.err
    assert not files(nowhere)


async def test_the_client_runs_from_its_wheel_alone(wheels: dict[str, Path], nowhere: Path) -> None:
    assert "agent_lifecycle_client/py.typed" in names(wheels["client"])
    python = (
        UV,
        "run",
        "--isolated",
        "--no-project",
        "--python",
        sys.executable,
        "--with",
        str(wheels["client"]),
    )
    said = await run("-W", "error", "-c", CALLS, program=(*python, "python"))
    assert said.code == 0, said.err
    assert said.out.count("No answer from http://127.0.0.1:1") == 2
    assert not files(nowhere)
