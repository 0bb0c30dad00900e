"""docs/frontend.md says what people see: every sentence of the frontend, and every picture that there is."""

import re
from pathlib import Path

import pytest

from devstack.screenshots import MADE

ROOT = Path(__file__).parents[2]
DOC = (ROOT / "docs" / "frontend.md").read_text(encoding="utf-8")


def test_the_table_has_every_sentence_and_no_other() -> None:
    messages = (ROOT / "web" / "src" / "messages.ts").read_text(encoding="utf-8")
    sentences = re.findall(r'sentence: "(.+)"', messages)

    assert sentences
    assert sorted(re.findall(r"^\| ([^|]+\.) \| ", DOC, re.MULTILINE)) == sorted(sentences)


@pytest.mark.parametrize("page", ["demo", "dashboard"])
def test_every_picture_is_shown_and_made_by_the_script(page: str) -> None:
    pictures = {path.name for path in (ROOT / "docs" / "images").glob(f"{page}-*.png")}
    doc = DOC if page == "demo" else (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")

    assert pictures
    assert set(re.findall(rf"\(images/({page}-[\w-]+\.png)\)", doc)) == pictures
    assert pictures <= MADE
