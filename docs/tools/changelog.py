"""CHANGELOG.md as a page: one source, whose links are made from where it lies."""

import re
from pathlib import Path
from typing import Any

_LINK = re.compile(r"\[([^\]]+)\]\((?!https?:|#)(?:docs/(\S+\.md[^)\s]*)|[^)\s]+)\)")


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: object) -> str:
    """Put the repository's file in place of the page of that name."""
    if page.file.src_uri != "changelog.md":
        return markdown
    source = Path(config.config_file_path).with_name("CHANGELOG.md")
    return _LINK.sub(_write_link, source.read_text(encoding="utf-8"))


def _write_link(found: re.Match[str]) -> str:
    """A link to a page stays one; any other file of the repository is none of the site's."""
    return f"[{found[1]}]({found[2]})" if found[2] else found[1]
