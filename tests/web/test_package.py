"""The npm package of web/ as a fresh Vite app meets it: installed, type-checked, built."""

import json
import re
import tarfile
from pathlib import Path
from typing import Any

from devstack.demo_assets import WEB
from devstack.fresh_app import NAME, TOOLS, build, make_app
from devstack.npm import Npm, run_command

HERE = Path(__file__).parent


def test_it_holds_what_is_imported_and_nothing_of_its_making(package: Path) -> None:
    with tarfile.open(package) as tar:
        names = {name.removeprefix("package/") for name in tar.getnames()}
        manifest_file = tar.extractfile("package/package.json")
        assert manifest_file
        manifest: dict[str, Any] = json.load(manifest_file)
    other = {name for name in names if not re.fullmatch(r"dist/[\w/-]+\.(js|d\.ts)", name)}
    assert other == {"package.json", "README.md", "LICENSE"}
    assert "private" not in manifest
    assert manifest["license"] == "Apache-2.0"
    assert (WEB / "LICENSE").read_text() == (WEB.parent / "LICENSE").read_text()
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
