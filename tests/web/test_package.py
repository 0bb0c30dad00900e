"""The npm package of web/ as a fresh Vite app meets it: installed, type-checked, built."""

import json
import re
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from devstack.demo_assets import WEB
from devstack.npm import Npm, environment, installed, run_command

HERE = Path(__file__).parent
NAME = "agent-lifecycle-client"
TOOLS = ("vite", "typescript", "@types/dom-mediacapture-record")
REACT = ("react", "react-dom", "@livekit/components-react", "@types/react", "@types/react-dom")


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package")
    with installed(WEB) as npm:
        npm.run("pack", "--silent", "--pack-destination", str(folder))
    (package,) = folder.glob("*.tgz")
    return package


def make_app(source: Path, folder: Path, package: Path, libraries: tuple[str, ...]) -> Npm:
    """An app with the package and the libraries, each as web/'s lock file has it."""
    shutil.copytree(source, folder)
    locked = json.loads((WEB / "package-lock.json").read_text())["packages"]
    versions = {name: locked[f"node_modules/{name}"]["version"] for name in libraries}
    manifest = {"private": True, "type": "module", "dependencies": {NAME: f"file:{package}", **versions}}
    (folder / "package.json").write_text(json.dumps(manifest))
    npm = Npm(folder=folder, environ=environment())
    npm.run("install", "--prefer-offline", "--no-audit", "--no-fund", "--loglevel=error")
    return npm


def build(app: Npm) -> str:
    """Check the types, build, and give the JavaScript that came of it."""
    app.run("exec", "--", "tsc", "--noEmit")
    app.run("exec", "--", "vite", "build", "--logLevel", "error")
    return "".join(path.read_text() for path in (app.folder / "dist" / "assets").glob("*.js"))


@pytest.fixture(scope="session")
def react_app(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Npm:
    folder = tmp_path_factory.mktemp("react") / "app"
    return make_app(HERE / "react_app", folder, package, ("livekit-client", *TOOLS, *REACT))


def test_it_holds_what_is_imported_and_nothing_of_its_making(package: Path) -> None:
    with tarfile.open(package) as tar:
        names = {name.removeprefix("package/") for name in tar.getnames()}
        manifest_file = tar.extractfile("package/package.json")
        assert manifest_file
        manifest: dict[str, Any] = json.load(manifest_file)
    other = {name for name in names if not re.fullmatch(r"dist/[\w/-]+\.(js|d\.ts)", name)}
    assert other == {"package.json", "README.md"}
    assert set(manifest["exports"]) == {".", "./react", "./components-react"}
    exported = {path.removeprefix("./") for entry in manifest["exports"].values() for path in entry.values()}
    assert exported <= names
    sources = {path.relative_to(WEB / "src").with_suffix("") for path in (WEB / "src").rglob("*.ts")}
    assert {f"dist/{source}.js" for source in sources} <= names


def test_a_react_app_uses_the_hook_and_the_session(react_app: Npm) -> None:
    assert "onlyIfEmpty" in build(react_app)


def test_a_page_without_react_needs_none_and_takes_only_what_it_uses(package: Path, tmp_path: Path) -> None:
    app = make_app(HERE / "plain_app", tmp_path / "app", package, ("livekit-client", *TOOLS))

    script = build(app)

    assert not (app.folder / "node_modules" / "react").exists()
    assert "No agent is available" in script
    # What has no side effects is left out where nobody uses it.
    assert "onlyIfEmpty" not in script


def test_node_follows_its_imports_by_itself(react_app: Npm) -> None:
    """No bundler guesses a missing extension here, as on a server that renders pages."""
    script = f"""
        for (const name of ["{NAME}", "{NAME}/react"])
            console.log(Object.keys(await import(name)).join());
    """

    command = ["node", "--input-type=module", "--eval", script]
    said = run_command(command, react_app.folder, react_app.environ, react_app.report)

    assert "AgentConnection" in said
    assert "useLivekit" in said
