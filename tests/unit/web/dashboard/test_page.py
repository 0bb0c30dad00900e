"""The static files of the page."""

from app.web.dashboard.page import FOLDER


def test_the_page_has_no_inline_script_or_style_and_no_third_party_resources() -> None:
    for path in FOLDER.iterdir():
        text = path.read_text()
        for forbidden in (
            "https://",
            "innerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "localStorage",
        ):
            assert forbidden not in text, (path.name, forbidden)
    markup = (FOLDER / "index.html").read_text()
    for forbidden in ("style=", "onclick", "<style", "<script>"):
        assert forbidden not in markup
