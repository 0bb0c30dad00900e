"""The documentation as a site: `python -m devstack.docs_site` builds it in build/docs/site.

Zensical gets a folder with the pages and what they link to, each at its path in the repository: a relative
link then means the same in both. `... llms.txt` writes the list of the pages for language models.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devstack.demo_assets import WEB
from devstack.npm import NpmError, installed

ROOT = WEB.parent
CONFIG = ROOT / "docs" / "zensical.toml"
FOLDER = ROOT / "build" / "docs"
INDEX = "llms.txt"
#: What the theme would ask unpkg.com for: its place on the site, and in the packages of web/.
SCRIPTS = {
    "assets/mermaid.js": "@mermaid-js/tiny/dist/mermaid.tiny.js",
    "assets/iframe-worker.js": "iframe-worker/shim/index.js",
}

_LINK = re.compile(r"\]\((?![a-z]+:|#)([^)\s#]+)[^)]*\)")
_SENTENCE_END = re.compile(r"(?<=\.) ")
_FENCED = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_TIMEOUT_S = 60.0


class BuildError(RuntimeError):
    """The site could not be built; the message has Zensical's output."""


@dataclass(frozen=True)
class Page:
    title: str
    #: From the root of the repository.
    path: str

    @property
    def text(self) -> str:
        return (ROOT / self.path).read_text(encoding="utf-8")

    @property
    def first_sentence(self) -> str:
        below_title = self.text.partition("\n\n")[2]
        first = " ".join(below_title.partition("\n\n")[0].split())
        return _SENTENCE_END.split(first, maxsplit=1)[0]


def sections() -> dict[str, list[Page]]:
    """The pages of each section, in the order of the navigation."""
    return {
        name: [Page(title, path) for page in section for title, path in page.items()]
        for named in _project()["nav"]
        for name, section in named.items()
    }


def pages() -> list[Page]:
    return [page for section in sections().values() for page in section]


def links(page: Page) -> Iterator[str]:
    """Every file that the page links to, from the root.

    Raises:
        BuildError: there is no such file; Zensical checks links to pages alone.
    """
    folder = (ROOT / page.path).parent
    for target in _LINK.findall(_FENCED.sub("", page.text)):
        path = (folder / target).resolve()
        if not (path.is_file() and path.is_relative_to(ROOT)):
            raise BuildError(f"{page.path}: {target} is no file of the repository; a folder has no page")
        yield path.relative_to(ROOT).as_posix()


def stage(folder: Path) -> None:
    """Make the folder that Zensical reads anew, without the scripts.

    Raises:
        BuildError: a page links to a file that does not exist.
    """
    shutil.rmtree(folder, ignore_errors=True)
    source = folder / "src"
    for path in {path for page in pages() for path in (page.path, *links(page))}:
        _copy(ROOT / path, source / path)
    _copy(CONFIG.with_suffix(".css"), source / "assets" / "zensical.css")
    shutil.copyfile(CONFIG, folder / CONFIG.name)


def add_scripts(folder: Path) -> None:
    """Add the scripts to a staged folder.

    Raises:
        NpmError: npm could not install them.
    """
    with installed(WEB):
        for place, package_file in SCRIPTS.items():
            _copy(WEB / "node_modules" / package_file, folder / "src" / place)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def build(folder: Path) -> Path:
    """Build a staged folder strictly and return the site.

    Raises:
        BuildError: a link or an anchor is broken, for example; the message is what Zensical printed.
    """
    done = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict", "-f", folder / CONFIG.name],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        # Behind the problems there is a traceback of Zensical's own.
        raise BuildError(_COLOUR.sub("", done.stdout + done.stderr).partition("Traceback")[0])
    site = folder / "site"
    for page in pages():
        shutil.copyfile(ROOT / page.path, site / page.path)
    (site / INDEX).write_text(index(), encoding="utf-8")
    whole = "\n".join(f"<!-- {page.path} -->\n\n{page.text}" for page in pages())
    (site / "llms-full.txt").write_text(whole, encoding="utf-8")
    return site


def index() -> str:
    """llms.txt, in the form of llmstxt.org."""
    project = _project()
    lines = [f"# {project['site_name']}", "", f"> {project['site_description']}"]
    for name, section in sections().items():
        lines += ["", f"## {name}", ""]
        lines += [f"- [{page.title}]({page.path}): {page.first_sentence}" for page in section]
    return "\n".join([*lines, ""])


def _project() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads(CONFIG.read_text(encoding="utf-8"))["project"]
    return project


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m devstack.docs_site", description=__doc__)
    parser.add_argument("what", choices=("site", INDEX), nargs="?", default="site")
    if parser.parse_args().what == INDEX:
        (ROOT / INDEX).write_text(index(), encoding="utf-8")
        return
    try:
        stage(FOLDER)
        add_scripts(FOLDER)
        print(build(FOLDER) / "index.html")
    except (BuildError, NpmError) as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
