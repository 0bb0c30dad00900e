"""A Go program: where it is looked for, how it is built, and what is said when that fails."""

import re
import threading
from pathlib import Path

import pytest

from devstack import helm_build, livekit_build
from devstack.go_build import BuildFailedError, GoProgram

DEVSTACK = Path(livekit_build.__file__).parent

#: Stands for Go: it says its version, and builds what its module tells it.
FAKE_GO = """#!/bin/sh
if [ "$1" = env ]; then echo go1.99.1; exit; fi
echo "$@" >> "$TOLD"
while [ "$1" != -o ]; do shift; done
. ./build.sh
"""


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What Go was told to do, a line for each build."""
    go = tmp_path / "bin" / "go"
    go.parent.mkdir()
    go.write_text(FAKE_GO)
    go.chmod(0o755)
    told = tmp_path / "told"
    told.touch()
    monkeypatch.setenv("PATH", f"{go.parent}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TOLD", str(told))
    return told


def program(folder: Path, build: str) -> GoProgram:
    module = folder / "module"
    module.mkdir()
    (module / "build.sh").write_text(build)
    return GoProgram(
        name="thing",
        version="v1.2.3",
        package="example.com/thing",
        module=module,
        variable="THING_BIN",
        takes="no time",
        niceness=10,
        linked={"example.com/thing.version": "v1.2.3"},
    )


def test_it_is_built_once(tmp_path: Path, told: Path) -> None:
    thing = program(tmp_path, 'echo "program" > "$2"')
    reports: list[str] = []
    first = thing.find_or_build(reports.append)
    assert first == tmp_path / "cache/agent-lifecycle/thing-v1.2.3"
    assert first.read_text() == "program\n"
    assert thing.find_or_build(reports.append) == first
    (arguments,) = told.read_text().splitlines()
    assert arguments.startswith("build -trimpath -ldflags -s -w -X example.com/thing.version=v1.2.3 -o ")
    assert arguments.endswith(" example.com/thing")
    assert [line.split()[0] for line in reports] == ["building", "built"]
    assert {path.name for path in first.parent.iterdir()} == {"thing-v1.2.3", ".thing-v1.2.3.lock"}


def test_two_that_want_it_at_once_build_it_once(tmp_path: Path, told: Path) -> None:
    thing = program(tmp_path, 'echo "program" > "$2"')
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(thing.find_or_build(lambda _: None))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 4
    assert len(set(found)) == 1
    assert len(told.read_text().splitlines()) == 1


@pytest.mark.usefixtures("told")
def test_a_build_that_fails_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    thing = program(tmp_path, "echo undefined: x; exit 1")
    with pytest.raises(BuildFailedError, match=r"(?s)go build of thing v1\.2\.3 failed.*undefined: x"):
        thing.find_or_build(lambda _: None)
    assert [path.name for path in (tmp_path / "cache/agent-lifecycle").iterdir()] == [".thing-v1.2.3.lock"]


def test_one_that_is_there_is_taken(tmp_path: Path, told: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    thing = program(tmp_path, "exit 1")
    on_path = tmp_path / "bin/thing"
    on_path.write_text("#!/bin/sh\n")
    on_path.chmod(0o755)
    assert thing.find_or_build() == on_path
    monkeypatch.setenv("THING_BIN", "/opt/thing")
    assert thing.find_or_build() == Path("/opt/thing")
    assert not told.read_text()


@pytest.mark.parametrize(
    ("folder", "module", "version"),
    [
        ("livekit", "github.com/livekit/livekit-server", livekit_build.VERSION),
        ("helm", "helm.sh/helm/v3", helm_build.VERSION),
        ("helm", "k8s.io/client-go", f"v0.{helm_build.KUBERNETES_MINOR}.0"),
    ],
)
def test_the_version_is_that_of_the_locked_module(folder: str, module: str, version: str) -> None:
    text = (DEVSTACK / folder / "go.mod").read_text()
    assert re.findall(rf"^\t{re.escape(module)} (\S+)", text, re.MULTILINE) == [version]
