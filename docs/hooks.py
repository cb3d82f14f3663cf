"""Links of pages to files outside docs/: there is no page for them, so they become their paths."""

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(!?)\[([^\]]*)\]\((\.\.?/[^)#]*)\)")


def on_page_markdown(markdown: str, *, page: Any, files: Any, **_: Any) -> str:
    def resolved(found: re.Match[str]) -> str:
        picture, text, target = found.groups()
        path = posixpath.normpath(
            posixpath.join("docs", posixpath.dirname(page.file.src_uri), target)
        )
        if path.startswith("docs/"):
            return found[0]
        if not (ROOT / path).exists():
            raise FileNotFoundError(f"{page.file.src_uri} links to {path}, which does not exist")
        return "" if picture else f"{text} (`{path}`)"

    return LINK.sub(resolved, markdown)
