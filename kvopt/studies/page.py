"""A page of words, tables and figures, as Markdown and as HTML."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kvopt.output import write_whole

_STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0;font-size:.85rem;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .6rem;border-bottom:1px solid #ddd;text-align:right}th:first-child,td:first-child{text-align:left}
caption,figcaption{text-align:left;color:#555;font-size:.9rem}img{max-width:100%}"""


@dataclass(frozen=True)
class Heading:
    """A section begins."""

    text: str


@dataclass(frozen=True)
class Words:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Cells:
    """A table, also written as CSV.

    Parameters
    ----------
    name : str
        Of the CSV file, without its ending.
    caption : str
    columns : tuple of str
    rows : sequence of tuple of str
    """

    name: str
    caption: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


@dataclass(frozen=True)
class Figure:
    """A picture that is there already.

    Parameters
    ----------
    file : str
        Beside the page.
    caption : str
    """

    file: str
    caption: str


Part = Heading | Words | Cells | Figure


def write_page(title: str, parts: Sequence[Part], out: Path, name: str) -> list[Path]:
    """Write ``name.md``, ``name.html`` and a CSV file for each table; the files written.

    Raises
    ------
    KvoptError
        When the folder is not writable.
    """
    texts = {f"{name}.md": markdown(title, parts), f"{name}.html": page(title, parts)}
    texts |= {f"{part.name}.csv": _csv(part) for part in parts if isinstance(part, Cells)}
    for file, text in texts.items():
        write_whole("--out", out / file, lambda path, text=text: path.write_text(text, encoding="utf-8"))
    return [out / file for file in texts]


def markdown(title: str, parts: Sequence[Part]) -> str:
    """The page as Markdown."""
    return "\n\n".join([f"# {title}", *map(_markdown, parts)]) + "\n"


def _markdown(part: Part) -> str:
    match part:
        case Heading(text):
            return f"## {text}"
        case Words(text):
            return text
        case Figure(file, caption):
            return f"![{caption}]({file})"
        case Cells():
            rows = [part.columns, tuple("---" if k == 0 else "---:" for k in range(len(part.columns))), *part.rows]
            return "\n".join([part.caption, "", *("| " + " | ".join(row) + " |" for row in rows)])


def page(title: str, parts: Sequence[Part]) -> str:
    """The page as HTML that needs nothing but its figures."""
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
    body = "\n".join(map(_html, parts))
    return f"{head}\n<style>{_STYLE}</style>\n<h1>{html.escape(title)}</h1>\n{body}\n</html>\n"


def _html(part: Part) -> str:
    match part:
        case Heading(text):
            return f"<h2>{html.escape(text)}</h2>"
        case Words(text):
            return f"<p>{html.escape(text)}</p>"
        case Figure(file, caption):
            told = html.escape(caption)
            return f'<figure><img src="{html.escape(file)}" alt="{told}"><figcaption>{told}</figcaption></figure>'
        case Cells():
            rows = ["".join(f"<th>{html.escape(cell)}</th>" for cell in part.columns)]
            rows += ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in part.rows]
            lines = "\n".join(f"<tr>{row}</tr>" for row in rows)
            return f"<table><caption>{html.escape(part.caption)}</caption>\n{lines}\n</table>"


def _csv(table: Cells) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([table.columns, *table.rows])
    return text.getvalue()
