"""What the documentation links to exists, and its examples run."""

import re
from pathlib import Path

import pytest

from lightning_modules.networks import rules

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\[([^\]]*)\]\(([^)#:]+)\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    links = LINK.findall(page.read_text(encoding="utf-8"))
    missing = [target for _, target in links if not (page.parent / target).exists()]
    assert not missing


def python_examples(page: Path) -> list[str]:
    """Blocks of Python, but those that need a data set or trained weights."""
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    return [block for block in blocks if ".fit(" not in block and "get_state_dict" not in block]


@pytest.mark.parametrize("example", [example for page in PAGES for example in python_examples(page)])
def test_examples_run(example, monkeypatch):
    monkeypatch.setattr(rules, "METHODS", dict(rules.METHODS))
    exec(example, {})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_tests_are_there(page):
    for text, target in LINK.findall(page.read_text(encoding="utf-8")):
        name = text.strip("`")
        if name.startswith("test_") and not name.endswith(".py"):
            assert f"def {name}(" in (page.parent / target).read_text(encoding="utf-8"), name
