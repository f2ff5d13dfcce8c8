"""Our own Markdown (tables, headings, bullets, bold) as HTML. Links, images and raw HTML stay plain text."""

from collections.abc import Sequence
from html import escape
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token

SYNTAX = ["table", "heading", "list", "emphasis", "escape", "entity", "newline"]
DEEPEST = 6


def split_title(text: str) -> tuple[str, str]:
    """The document's first heading, empty if it starts with none, and the rest."""
    first, _, rest = text.lstrip().partition("\n")
    return (first.removeprefix("# ").strip(), rest) if first.startswith("# ") else ("", text)


def to_html(text: str, title: str, deeper: int) -> str:
    """The document with its headings ``deeper`` levels down, each table captioned by the heading above it.

    ``title`` captions tables before the first heading.
    """
    parser = MarkdownIt("zero").enable(SYNTAX)
    parser.add_render_rule("table_open", _open_table)
    parser.add_render_rule("table_close", lambda *_: "</table></div>\n")
    tokens = parser.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1:]) + deeper, DEEPEST)}"
    return parser.renderer.render(tokens, parser.options, {"title": title})


def _open_table(_: Any, tokens: Sequence[Token], index: int, options: Any, env: dict[str, str]) -> str:
    headings = [tokens[i + 1].content for i in range(index) if tokens[i].type == "heading_open"]
    caption = escape(headings[-1] if headings else env["title"])
    opened = f'<div class="scroll" tabindex="0" role="region" aria-label="{caption}"><table>'
    return f'{opened}<caption class="unseen">{caption}</caption>'
