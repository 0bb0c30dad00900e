"""The documentation as a site: every page once, no broken link, nothing from elsewhere, as on GitHub."""

import re
from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from devstack import docs_site
from devstack.docs_site import ROOT, BuildError, Page
from devstack.npm import NpmError

#: What must be the same here and on GitHub; `p` differs, as each has its own idea of a loose list.
_ELEMENTS = {"h1", "h2", "h3", "h4", "ol", "ul", "li", "table", "td", "th", "pre", "code", "img", "strong"}
_SOURCES = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)=\"?([^\" >]+)")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    docs_site.stage(folder)
    return folder


@pytest.fixture(scope="module")
def site(folder: Path) -> Path:
    return docs_site.build(folder)


def html(site: Path, page: Page) -> str:
    path = Path(page.path)
    name = "index" if path.name == "README.md" else path.stem
    return (site / path.parent / f"{name}.html").read_text(encoding="utf-8")


# The pages


def test_every_page_is_in_the_navigation_once() -> None:
    listed = Counter(page.path for page in docs_site.pages())
    written = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")}
    linked = {link for page in docs_site.pages() for link in docs_site.links(page) if link.endswith(".md")}
    missing = sorted((written | linked) - set(listed))
    assert not missing, f"docs/zensical.toml, nav: add {missing}"
    assert [path for path in listed if not (ROOT / path).is_file()] == []
    assert [path for path, times in listed.items() if times > 1] == []


@pytest.mark.parametrize("page", docs_site.pages(), ids=lambda page: page.path)
def test_a_page_begins_with_a_sentence_that_says_what_it_is_for(page: Page) -> None:
    sentence = page.first_sentence
    assert page.text.startswith("# ")
    assert sentence.endswith("."), f"{page.path}: one sentence below the title, then an empty line"
    assert len(sentence) <= 130
    assert "](" not in sentence, f"{page.path}: it stands in llms.txt, where a relative link is wrong"


@pytest.mark.parametrize("page", docs_site.pages(), ids=lambda page: page.path)
def test_every_picture_has_a_text(page: Page) -> None:
    assert "![](" not in page.text


def test_the_index_for_language_models_is_up_to_date() -> None:
    written = (ROOT / docs_site.INDEX).read_text(encoding="utf-8")
    assert written == docs_site.index(), "run `python -m devstack.docs_site llms.txt`"


def test_the_readme_lists_the_pages_of_each_section_as_the_site_does() -> None:
    rows = re.findall(
        r"^\| \*\*(.+)\*\* \| (.+) \|$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    written = {name: re.findall(r"\[([^]]+)\]\(([^)]+)\)", links) for name, links in rows}
    there_are = {
        name[0].lower() + name[1:]: [(page.title, page.path) for page in section if page.path != "README.md"]
        for name, section in docs_site.sections().items()
    }
    assert list(written) == list(there_are)
    assert written == there_are, "README.md, Documentation, against nav of docs/zensical.toml"


# The site


def test_it_builds_strictly_and_has_every_page_as_html_and_as_markdown(site: Path) -> None:
    for page in docs_site.pages():
        assert "<h1" in html(site, page)
        assert (site / page.path).read_text(encoding="utf-8") == page.text
    for path in re.findall(r"\]\(([^)]+)\)", (site / docs_site.INDEX).read_text(encoding="utf-8")):
        assert (site / path).is_file()
    whole = (site / "llms-full.txt").read_text(encoding="utf-8")
    assert all(page.text in whole for page in docs_site.pages())


def test_what_fails_is_said_without_a_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_folder: Path) -> None:
        raise NpmError("npm is missing")

    monkeypatch.setattr(docs_site, "FOLDER", tmp_path)
    monkeypatch.setattr(docs_site, "add_scripts", fail)
    monkeypatch.setattr("sys.argv", ["docs_site"])
    with pytest.raises(SystemExit, match=r"^npm is missing$"):
        docs_site.main()


def test_a_broken_link_or_anchor_fails_the_build(tmp_path: Path) -> None:
    docs_site.stage(tmp_path)
    page = tmp_path / "src" / "docs" / "policy.md"
    links = "[a](nowhere.md) [b](warm.md#nowhere) [c](../README.md#nowhere) [d](#nowhere)"
    page.write_text(f"{page.read_text(encoding='utf-8')}\n{links}\n", encoding="utf-8")
    with pytest.raises(BuildError) as failed:
        docs_site.build(tmp_path)
    problems = re.findall(r"Warning: (.+)\n.*docs/policy\.md", str(failed.value))
    assert sorted(problems) == [*["anchor does not exist"] * 3, "page does not exist"]


@pytest.mark.parametrize("target", ["nowhere.py", "nowhere.md#x", "folder", "../../outside.md"])
def test_a_link_to_no_file_of_the_repository_fails_the_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    root = tmp_path / "repository"
    (root / "docs" / "folder").mkdir(parents=True)
    (tmp_path / "outside.md").touch()
    monkeypatch.setattr(docs_site, "ROOT", root)
    (root / "docs" / "page.md").write_text(f"# A page\n\n[x](page.md#y) [x]({target})\n", encoding="utf-8")
    found = docs_site.links(Page("A page", "docs/page.md"))
    assert next(found) == "docs/page.md"
    with pytest.raises(BuildError, match=re.escape(target.partition("#")[0])):
        next(found)


def test_no_page_takes_anything_from_another_host(site: Path) -> None:
    sources = [source for page in docs_site.pages() for source in _SOURCES.findall(html(site, page))]
    assert any(source.endswith(".css") for source in sources)
    assert set(docs_site.SCRIPTS) <= {source.lstrip("./") for source in sources}
    assert [source for source in sources if "//" in source] == []


class _Outline(HTMLParser):
    """How many of each element an article has, and the anchors of its headings."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: Counter[str] = Counter()
        self.anchors: list[str] = []
        self._inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = self._inside or tag == "article"
        if self._inside and tag in _ELEMENTS:
            self.elements[tag] += 1
            if tag.startswith("h"):
                self.anchors.append(dict(attrs).get("id") or "")

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "article"


def githubs_anchors(text: str) -> list[str]:
    tokens = MarkdownIt().parse(text)
    headings = [
        "".join(part.content for part in after.children or [])
        for token, after in pairwise(tokens)
        if token.type == "heading_open"
    ]
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


def test_every_page_reads_as_on_github(site: Path) -> None:
    different: dict[str, object] = {}
    for page in docs_site.pages():
        github = _Outline(f"<article>{MarkdownIt().enable('table').render(page.text)}</article>").elements
        outline = _Outline(html(site, page))
        if outline.elements != github:
            different[page.path] = {
                "more on GitHub": dict(github - outline.elements),
                "more here": dict(outline.elements - github),
            }
        if outline.anchors != githubs_anchors(page.text):
            different[f"{page.path}, anchors"] = outline.anchors
    hint = "an empty line before a list; four spaces before what belongs to an item of a list"
    assert different == {}, hint
