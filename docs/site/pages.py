"""What the site has and docs/ has not: pages beside docs/, a table of options, colours of code.

In the repository a page links to whatever file it speaks of. The site has docs/ and the four pages
below; a link to anything else of the repository becomes its name.
"""

import re
from dataclasses import fields
from pathlib import Path, PurePosixPath
from posixpath import normpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pygments.formatters import HtmlFormatter

from maskcon.config import Config

BESIDE = ("CHANGELOG.md", "CONTRIBUTING.md", "LOG.md", "RESULTS.md", "SECURITY.md")
ROOT = Path(__file__).parent.parent.parent
LINK = re.compile(r"(?<!!)\[([^]]+)\]\((?!\w+:|#)([^)#\s]+)(#[^)]*)?\)")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages beside docs/, and Pygments' colours for code on light and dark."""
    for name in BESIDE:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    colours = (
        HtmlFormatter(style=style).get_style_defs(f"[data-bs-theme={theme}] .highlight")
        for theme, style in (("light", "default"), ("dark", "github-dark"))
    )
    files.append(File.generated(config, "site/code.css", content="\n".join(colours)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make the links of a page into links of the site, and fill in the options."""
    home = PurePosixPath("." if page.file.src_uri in BESIDE else "docs")

    def moved(link: re.Match) -> str:
        text, target, anchor = link[1], normpath(str(home / link[2])), link[3] or ""
        if target in BESIDE:
            return f"[{text}]({target}{anchor})"
        if target.startswith("docs/"):
            return f"[{text}]({target.removeprefix('docs/')}{anchor})"
        if not (ROOT / target).exists():
            raise PluginError(f"{page.file.src_uri} links to {link[2]}, which does not exist")
        return f"`{text}`"

    return LINK.sub(moved, markdown).replace("<!-- options -->", _options())


def _options() -> str:
    """The fields of Config: type, default and meaning."""
    rows = ["| field | type | default | |", "|---|---|---|---|"]
    for field in fields(Config):
        if text := field.metadata.get("help"):
            wanted = str(field.type).replace("|", "\\|")
            rows.append(f"| `{field.name}` | `{wanted}` | `{field.default!r}` | {text} |")
    return "\n".join(rows)
