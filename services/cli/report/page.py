"""Figures as one HTML page that needs nothing beside it: for a telephone, a desk and paper.

Pure: the pictures and the font come ready made.
"""

from collections.abc import Sequence
from html import escape

from services.cli.report.figure import FONTS, Figure

STYLE = """
:root { color: #1a1a1a; background: #fff }
body { font-family: %(fonts)s; line-height: 1.5; margin: 0 auto; max-width: 60rem; padding: 1rem }
h1 { font-size: 1.4rem; margin: 0 0 .5rem }
section { margin: 0 0 2rem } figure { margin: 0 }
figure svg { display: block; width: 100%%; max-width: 36rem; height: auto }
ul { font-size: .9rem; padding-left: 1.2rem; margin: .5rem 0 }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-size: .9rem }
th, td { border-bottom: 1px solid #767676; padding: .25rem .5rem; text-align: left; vertical-align: top; white-space: nowrap }
td.number { text-align: right; font-variant-numeric: tabular-nums }
th { border-bottom-width: 2px }
@media print {
  @page { size: A4; margin: 20mm }
  body { max-width: none; padding: 0; font-size: 10.5pt }
  section { break-after: page } section:last-of-type { break-after: auto }
  figure, tr { break-inside: avoid } thead { display: table-header-group }
  figure svg { max-width: 130mm; max-height: 200mm } .wide { overflow: visible } th, td:not(:first-child) { white-space: normal }
}
"""


def written(title: str, figures: Sequence[Figure]) -> str:
    """All letters that the page has outside its pictures."""
    return "".join(
        [
            title,
            *(
                "".join([f.title, *f.subtitle, *f.notes, *f.columns, *(str(v) for r in f.rows for v in r)])
                for f in figures
            ),
        ]
    )


def page(title: str, figures: Sequence[Figure], pictures: Sequence[str], face: str) -> str:
    """Each figure with its table: whoever cannot see the picture, or doubts it, has the numbers."""
    sections = "\n".join(_section(f, p) for f, p in zip(figures, pictures, strict=True))
    return (
        f'<!DOCTYPE html>\n<html lang="zh-CN">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
        f"<style>{face}{STYLE % {'fonts': FONTS}}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n"
        f"{sections}\n</body>\n</html>\n"
    )


def _section(figure: Figure, picture: str) -> str:
    head = "".join(f'<th scope="col">{escape(c)}</th>' for c in figure.columns)
    rows = "\n".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in figure.rows)
    notes = "".join(f"<li>{escape(note)}</li>" for note in figure.notes)
    return (
        f"<section>\n<figure>\n{picture}\n</figure>\n"
        + (f"<ul>{notes}</ul>\n" if notes else "")
        + f'<div class="wide"><table><caption hidden>{escape(figure.title)}</caption><thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody></table></div>\n</section>"
    )


def _cell(value: str | int) -> str:
    number = ' class="number"' if isinstance(value, int) else ""
    return f"<td{number}>{escape(str(value))}</td>"
