"""A grid as a LaTeX table to \\input: booktabs rules, data sets as spanning headers, notes underneath.

Written here since great_tables leaves bold text and U+2212 out of its LaTeX.
"""

from collections.abc import Iterable
from itertools import groupby

from benchmark.report.layout import Column, Grid, Text

SPECIAL = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "{": r"\{",
        "}": r"\}",
        "%": r"\%",
        "&": r"\&",
        "_": r"\_",
        "#": r"\#",
        "$": r"\$",
        "^": r"\textasciicircum{}",
        "~": r"\textasciitilde{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "[": "{[}",  # after \\ a bracket would be read as a length and a star as a page rule
        "*": "{*}",
        "±": r"$\pm$",
        "−": r"$-$",
        "×": r"$\times$",
        "†": r"\textdagger{}",
        "‡": r"\textdaggerdbl{}",
        "—": "---",
    }
)
UNKNOWN = "?"  # for letters that pdflatex has no glyph for


def to_latex(title: str, grids: list[Grid]) -> str:
    """One table environment for each grid."""
    return "\n".join(["% needs \\usepackage{booktabs}", *(_table(title, grid) for grid in grids)])


def escape(text: str) -> str:
    """Text that LaTeX prints as it stands; other letters than Latin ones become question marks."""
    latin = "".join(c if ord(c) in SPECIAL or ord(c) < 256 else UNKNOWN for c in text)
    return latin.translate(SPECIAL)


def _table(title: str, grid: Grid) -> str:
    alignment = "".join("l" if column.is_text else "r" for column in grid.columns)
    notes = "\n".join(rf"\item {escape(note)}" for note in grid.notes)
    return rf"""
\begin{{table}}
\centering\footnotesize\setlength{{\tabcolsep}}{{3pt}}
\caption{{{escape(title)}; {escape(grid.title)}}}
\begin{{tabular}}{{@{{}}{alignment}@{{}}}}
\toprule
{_spanners(grid.columns)}
{_row(escape(column.name) for column in grid.columns)}
\midrule
{chr(10).join(_row(_cell(cell) for cell in row) for row in grid.rows)}
\bottomrule
\end{{tabular}}
\par\medskip
\begin{{minipage}}{{\linewidth}}
\footnotesize\raggedright
\begin{{itemize}}
{notes}
\end{{itemize}}
\end{{minipage}}
\end{{table}}
"""


def _spanners(columns: tuple[Column, ...]) -> str:
    """The data sets over their columns, each with a rule under it."""
    headers, rules, position = [], [], 1
    for group, members in groupby(columns, key=lambda column: column.group):
        width = len(list(members))
        if group:
            headers.append(rf"\multicolumn{{{width}}}{{c}}{{{escape(group)}}}")
            rules.append(rf"\cmidrule(lr){{{position}-{position + width - 1}}}")
        else:
            headers += [""] * width
        position += width
    return f"{_row(headers)}\n{''.join(rules)}"


def _row(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def _cell(cell: Text) -> str:
    return rf"\textbf{{{escape(cell.text)}}}" if cell.bold else escape(cell.text)
