"""Pages of HTML that are one file: they load nothing, and nothing of the network loads them."""

import base64
import hashlib
from html import escape

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
{script}</body>
</html>
"""


def page(title: str, body: str, *, style: str, script: str = "") -> str:
    """A whole page; its policy allows its own style and script, by hash, and no network.

    Args:
        title: text.
        body: HTML, in which whatever people named is escaped. No element has a style attribute.
        style: CSS.
        script: JavaScript, run after the body.
    """
    runs = f"script-src {_hash(script)}; " if script else ""
    policy = (
        f"default-src 'none'; img-src data:; {runs}style-src {_hash(style)}; base-uri 'none'; "
        "form-action 'none'"
    )
    return _PAGE.format(
        policy=policy,
        title=escape(title),
        style=style,
        body=body,
        script=f"<script>{script}</script>\n" if script else "",
    )


def data_uri(jpeg: bytes) -> str:
    """A picture, the content of a JPEG file, as what an img element shows."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


def _hash(content: str) -> str:
    digest = hashlib.sha256(content.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
