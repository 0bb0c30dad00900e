"""A fresh Vite app, as an outsider makes it, with the packed package of web/ and its README's examples."""

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from devstack.demo_assets import WEB
from devstack.npm import Npm, environment, installed

NAME = "agent-lifecycle-client"
TOOLS = ("vite", "typescript", "@types/dom-mediacapture-record")
REACT = ("react", "react-dom", "@livekit/components-react", "@types/react", "@types/react-dom")

_EXAMPLE = re.compile(r"^```tsx\n// (\S+\.tsx)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def pack(folder: Path) -> Path:
    """The package, as `npm pack` makes it."""
    with installed(WEB) as npm:
        npm.run("pack", "--silent", "--pack-destination", str(folder))
    (package,) = folder.glob("*.tgz")
    return package


def make_app(source: Path, folder: Path, package: Path, libraries: Sequence[str]) -> Npm:
    """An app with the package and the libraries, each in the version of web/'s lock file."""
    shutil.copytree(source, folder)
    locked = json.loads((WEB / "package-lock.json").read_text())["packages"]
    versions = {name: locked[f"node_modules/{name}"]["version"] for name in libraries}
    manifest = {"private": True, "type": "module", "dependencies": {NAME: f"file:{package}", **versions}}
    (folder / "package.json").write_text(json.dumps(manifest))
    npm = Npm(folder=folder, environ=environment())
    npm.run("install", "--prefer-offline", "--no-audit", "--no-fund", "--loglevel=error")
    return npm


def add_examples(folder: Path) -> None:
    """Write each of the README's examples into the file that its first line names."""
    for name, text in _EXAMPLE.findall((WEB / "README.md").read_text(encoding="utf-8")):
        (folder / name).write_text(text, encoding="utf-8")


def build(app: Npm) -> str:
    """Check the types, build, and return the built JavaScript."""
    app.run("exec", "--", "tsc", "--noEmit")
    app.run("exec", "--", "vite", "build", "--logLevel", "error")
    return "".join(path.read_text() for path in (app.folder / "dist" / "assets").glob("*.js"))


def build_for_development(app: Npm, folder: Path) -> None:
    """Build with React's development version: the production version ignores StrictMode."""
    app = replace(app, environ={**app.environ, "NODE_ENV": "development"})
    command = ("vite", "build", "--mode", "development", "--logLevel", "error", "--outDir", str(folder))
    app.run("exec", "--", *command)
