"""A grid as HTML through great_tables: a fragment that a page can hold and a browser can open."""

from html import escape

import pandas as pd
from great_tables import GT, loc, style

from benchmark.report.layout import Grid

FONT = ("system-ui", "Segoe UI", "Helvetica", "Arial", "sans-serif")
NOTES = "max-width: 60em; margin: 0.8em 0 2.5em; font: 14px/1.5 system-ui, sans-serif; color: #333333;"


def to_html(title: str, name: str, grids: list[Grid]) -> str:
    """Every grid and its notes. ``name`` keeps the elements of several fragments on one page apart."""
    sections = "\n".join(_section(title, name, grid) for grid in grids)
    return f'<meta charset="utf-8">\n<section id="{escape(name)}">\n{sections}</section>\n'


def _section(title: str, name: str, grid: Grid) -> str:
    notes = "\n".join(f"<li>{escape(note, quote=False)}</li>" for note in grid.notes)
    return f'{_table(title, name, grid).as_raw_html().strip()}\n<ul style="{NOTES}">\n{notes}\n</ul>\n'


def _table(title: str, name: str, grid: Grid) -> GT:
    ids = [f"c{number}" for number, _ in enumerate(grid.columns)]
    frame = pd.DataFrame([[cell.text for cell in row] for row in grid.rows], columns=ids)
    table = (
        GT(frame, id=f"{name}-{grid.slug}")
        .tab_header(title=title, subtitle=grid.title)
        .cols_label({i: column.name for i, column in zip(ids, grid.columns, strict=True)})
        .cols_align("right", [i for i, column in zip(ids, grid.columns, strict=True) if not column.is_text])
        .opt_align_table_header("left")
        .opt_table_font(font=list(FONT))
        .tab_options(
            table_font_size="14px",
            table_margin_left="0",
            data_row_padding="5px",
            row_striping_include_table_body=False,
        )
        .tab_style(style.css("font-variant-numeric: tabular-nums; white-space: nowrap;"), loc.body())
    )
    for group in dict.fromkeys(column.group for column in grid.columns if column.group):
        members = [i for i, column in zip(ids, grid.columns, strict=True) if column.group == group]
        table = table.tab_spanner(group, members, id=f"{members[0]}-group")
    for number, row in enumerate(grid.rows):
        bold = [i for i, cell in zip(ids, row, strict=True) if cell.bold]
        if bold:
            table = table.tab_style(style.text(weight="bold"), loc.body(bold, [number]))
    return table
