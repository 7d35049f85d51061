"""Pages say the same in Markdown, HTML and CSV."""

from __future__ import annotations

import csv
from html.parser import HTMLParser

from kvopt.studies.page import Cells, Figure, Heading, Words, markdown, page, write_page

TABLE = Cells("times", "Times & more", ("policy", "s"), [("a < b", "1.5"), ("c, d", "-")])
PARTS = [Heading("One"), Words("Words <= words."), TABLE, Figure("f.png", "A figure")]


class Texts(HTMLParser):
    """Texts by tag."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, list[str]] = {}
        self._open: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in ("img", "meta"):
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and data.strip():
            self.found.setdefault(self._open[-1], []).append(data)


def test_html_is_well_formed_and_escaped():
    texts = Texts()
    texts.feed(page("A & B", PARTS).removeprefix("<!doctype html>"))
    assert texts.found["title"] == texts.found["h1"] == ["A & B"]
    assert texts.found["td"] == ["a < b", "1.5", "c, d", "-"]
    assert texts.found["p"] == ["Words <= words."]


def test_markdown_has_a_column_for_every_cell():
    lines = markdown("T", PARTS).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert table == ["| policy | s |", "| --- | ---: |", "| a < b | 1.5 |", "| c, d | - |"]
    assert "![A figure](f.png)" in lines


def test_tables_are_files_too(tmp_path):
    files = write_page("T", PARTS, tmp_path, "p")
    assert files == [tmp_path / name for name in ("p.md", "p.html", "times.csv")]
    with (tmp_path / "times.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [["policy", "s"], ["a < b", "1.5"], ["c, d", "-"]]
