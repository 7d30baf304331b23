"""What a search found, as one page with pictures in it.

The page loads nothing and runs nothing: thumbnails are data URIs, and whatever a file name or a
label contains is escaped.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from maskcon.runtime import pages

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2126; --soft: #646c76; --page: #f6f6f4;
  --card: #ffffff; --line: #dcdcd7; --bar: #3b6fb6; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8ea; --soft: #9aa3ad; --page: #16181b;
  --card: #1f2226; --line: #34393f; --bar: #7ba7e0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1180px; padding: 1.5rem; background: var(--page);
  color: var(--ink); font: 14px/1.4 system-ui, sans-serif; }
h1 { font-size: 1.25rem; margin: 0 0 .25rem; }
p.about { color: var(--soft); margin: 0 0 1.5rem; }
section { display: flex; gap: 1.25rem; padding: 1.25rem 0; border-top: 1px solid var(--line); }
.query { flex: 0 0 180px; min-width: 0; }
.hits { flex: 1; display: grid; gap: .75rem; margin: 0; padding: 0; list-style: none;
  grid-template-columns: repeat(auto-fill, minmax(128px, 1fr)); align-content: start; }
.hit { background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: .5rem;
  min-width: 0; }
.frame { display: flex; align-items: center; justify-content: center; height: 112px; }
.query .frame { height: 168px; justify-content: flex-start; }
img { display: block; width: 100%; height: 100%; object-fit: contain; }
.query img { object-position: left; }
.none { color: var(--soft); font-size: 12px; text-align: center; }
.score { display: flex; justify-content: space-between; margin-top: .4rem;
  font-variant-numeric: tabular-nums; }
.rank { color: var(--soft); }
.bar { display: block; width: 100%; height: 3px; background: var(--line); border-radius: 2px;
  margin: .2rem 0 .35rem; fill: var(--bar); }
.label { font-weight: 600; overflow-wrap: anywhere; }
.path { color: var(--soft); font-size: 12px; overflow-wrap: anywhere; }
@media (max-width: 620px) { section { flex-direction: column; } .query { flex-basis: auto; } }
"""


@dataclass(frozen=True)
class Card:
    """A picture on the page.

    Attributes:
        path: what it is called.
        thumbnail: JPEG; None where there is none.
        label: of its class; "" where it has none.
        score: similarity to the query, of a hit.
        is_words: it is a query of words, and `path` are they.
    """

    path: str
    thumbnail: bytes | None
    label: str = ""
    score: float = 0.0
    is_words: bool = False


def page(title: str, about: str, found: Sequence[tuple[Card, Sequence[Card]]]) -> str:
    """The page.

    Args:
        title: of the page.
        about: a line below it.
        found: queries, each with its hits, nearest first.
    """
    sections = "\n".join(_section(query, hits) for query, hits in found)
    head = f'<h1>{escape(title)}</h1>\n<p class="about">{escape(about)}</p>'
    return pages.page(title, f"{head}\n{sections}", style=_STYLE)


def _section(query: Card, hits: Sequence[Card]) -> str:
    cards = "\n".join(_hit(rank, hit) for rank, hit in enumerate(hits, 1))
    frame = "" if query.is_words else f'<div class="frame">{_image(query)}</div>\n'
    kind = "label" if query.is_words else "path"
    return f"""<section>
<div class="query">{frame}<div class="{kind}">{escape(query.path)}</div></div>
<ol class="hits">
{cards or '<li class="none">nothing else is in the index</li>'}
</ol>
</section>"""


def _hit(rank: int, hit: Card) -> str:
    width = max(0.0, min(1.0, hit.score))
    label = f'<div class="label">{escape(hit.label)}</div>' if hit.label else ""
    return f"""<li class="hit"><div class="frame">{_image(hit)}</div>
<div class="score"><span class="rank">{rank}</span><span>{hit.score:.3f}</span></div>
<svg class="bar" aria-hidden="true"><rect width="{width:.1%}" height="3"/></svg>
{label}<div class="path">{escape(hit.path)}</div></li>"""


def _image(card: Card) -> str:
    if card.thumbnail is None:
        return '<span class="none">no thumbnail</span>'
    return f'<img alt="{escape(card.path)}" src="{pages.data_uri(card.thumbnail)}">'
