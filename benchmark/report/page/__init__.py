"""One page that needs no other file and no network: ``results/report.html``.

It holds the tables with their notes, the plots, every run and what it ran on. The same records, the same files of
``speed`` and ``theory`` and the same matplotlib give the same bytes.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from benchmark.ledger import write_atomically
from benchmark.report.page.documents import Chapter, earlier_chapters, experiment_chapter
from benchmark.report.page.overview import data_grid, environment_grid, mixture, overview_grid, totals
from benchmark.report.page.records import Group, read_groups, unknown_experiments
from benchmark.report.page.runs import details, run_table

NAME = "report.html"
FOLDER = Path(__file__).parent

__all__ = ["NAME", "Group", "read_groups", "write_page"]


def write_page(
    results: Path, groups: Sequence[Group], written: Mapping[str, Sequence[Path]], paper: Path | None
) -> Path:
    """Write the page and return its path.

    Args:
        results: the results directory.
        groups: what ``read_groups`` found in it.
        written: by experiment the tables and plots that were just made from its records.
        paper: the folder of published numbers, or None to show none.

    Raises:
        UserError: runs that must not share a table, a file that cannot be read, or the folder cannot be written.
    """
    results = Path(results)
    experiments = [group.experiment for group in groups if group.is_tabulated]
    chapters = [experiment_chapter(e, results, written.get(e.name, ()), paper) for e in experiments]
    known = {path.stem for paths in written.values() for path in paths}
    path = results / NAME
    unknown = unknown_experiments(groups, results)
    write_atomically(path, _render(groups, unknown, [*chapters, *earlier_chapters(results, known)]))
    return path


def _render(groups: Sequence[Group], unknown: Sequence[str], chapters: Sequence[Chapter]) -> str:
    """The page's text."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    script = (FOLDER / "page.js").read_text(encoding="utf-8")
    return environment.get_template("page.html").render(
        style=(FOLDER / "page.css").read_text(encoding="utf-8"),
        script=script,
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        totals=totals(groups),
        overview=overview_grid(groups),
        unknown=unknown,
        omitted=[group for group in groups if not group.is_tabulated],
        chapters=chapters,
        runs=run_table(groups),
        details=details(groups),
        environment=environment_grid(groups),
        mixture=mixture(groups),
        data=data_grid(groups),
    )
