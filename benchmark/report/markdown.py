"""A grid as a GitHub table with its notes as bullets; also what the terminal shows."""

from tabulate import tabulate

from benchmark.report.layout import Column, Grid, Text


def to_markdown(title: str, grids: list[Grid]) -> str:
    """The document: a heading, then every grid under its own."""
    return "\n\n".join([f"# {title}", *(_section(grid) for grid in grids)]) + "\n"


def _section(grid: Grid) -> str:
    table = tabulate(
        [[_cell(cell) for cell in row] for row in grid.rows],
        headers=[_header(column) for column in grid.columns],
        tablefmt="pipe",
        colalign=["left" if column.is_text else "right" for column in grid.columns],
        disable_numparse=True,
    )
    notes = "\n".join(f"- {_escape(note)}" for note in grid.notes)
    return f"## {grid.title}\n\n{table}\n\n{notes}"


def _header(column: Column) -> str:
    """The data set alone heads our error, since that is what the table is about."""
    return f"{column.group} {column.name}".removesuffix(" error").strip()


def _cell(cell: Text) -> str:
    text = _escape(cell.text)
    return f"**{text}**" if cell.bold else text


def _escape(text: str) -> str:
    """Keep text from being read as markup; underscores inside words need nothing."""
    return text.replace("|", r"\|").replace("*", r"\*").replace("<", "&lt;")
