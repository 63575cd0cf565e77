"""One HTML file that shows hits as pictures, with nothing in it that loads from elsewhere.

Thumbnails are encoded anew and small, as data URIs; all text is escaped, and a policy in
the page forbids scripts and foreign content, whatever a catalogue has in its columns.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from fashionclip.errors import ImageError
from fashionclip.images.decode import thumbnail

THUMBNAIL_PX = 360
"""Longest side of a thumbnail: sharp at 180 CSS pixels on a dense screen, about 12 kB."""


@dataclass(frozen=True, slots=True)
class Card:
    """A hit as the page shows it."""

    product_id: str
    title: str
    score: float
    details: Sequence[tuple[str, str]]
    """Column and value, in the order they are shown."""
    picture: bytes | None
    """The encoded picture; None where it could not be read."""


def build_page(
    cards: Sequence[Card],
    *,
    heading: str,
    facts: Sequence[str] = (),
    query_picture: bytes | None = None,
) -> str:
    """Build the page.

    Args:
        cards: the hits, best first.
        heading: what was asked for.
        facts: short remarks under the heading, such as the filter.
        query_picture: the encoded picture that was searched with, if any.

    Returns:
        A whole HTML document.
    """
    asked = _picture(query_picture, alt="the picture searched with") if query_picture else ""
    chips = "".join(f"<li>{escape(fact)}</li>" for fact in facts)
    body = "\n".join(_card(card, rank) for rank, card in enumerate(cards, start=1))
    return _PAGE.format(
        title=escape(heading),
        style=_STYLE,
        query=f'<div class="query">{asked}</div>' if asked else "",
        chips=f'<ul class="facts">{chips}</ul>' if chips else "",
        cards=body or '<p class="nothing">No product matches.</p>',
    )


def _card(card: Card, rank: int) -> str:
    details = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in card.details
    )
    return (
        f'<article><figure>{_picture(card.picture, alt=card.title)}</figure><div class="words">'
        f'<p class="rank"><span>{rank}</span><span title="score">{card.score:.3f}</span></p>'
        f"<h2>{escape(card.title)}</h2><p class=id>{escape(card.product_id)}</p>"
        + (f"<details><summary>Details</summary><dl>{details}</dl></details>" if details else "")
        + "</div></article>"
    )


def _picture(data: bytes | None, *, alt: str) -> str:
    if data is not None:
        try:
            jpeg = base64.b64encode(thumbnail(data, max_px=THUMBNAIL_PX)).decode("ascii")
            return f'<img loading="lazy" alt="{escape(alt)}" src="data:image/jpeg;base64,{jpeg}">'
        except ImageError:
            pass  # the words of the hit are still worth showing
    return '<span class="missing">no picture</span>'


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header>{query}<div><h1>{title}</h1>{chips}</div></header>
<main>
{cards}
</main>
</body>
</html>
"""

_STYLE = """
:root {
  --ground: #f6f5f3; --card: #fff; --ink: #1c1b1a; --quiet: #6d6963; --line: #e4e1dc;
  --accent: #8a3b2b;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #161514; --card: #211f1d; --ink: #f0eeea; --quiet: #a39e96; --line: #34312d;
    --accent: #e59b86;
  }
}
* { box-sizing: border-box; margin: 0; }
body {
  background: var(--ground); color: var(--ink); padding: clamp(1rem, 3vw, 3rem);
  font: 15px/1.45 system-ui, -apple-system, "Segoe UI", sans-serif;
  max-width: 1500px; margin-inline: auto;
}
header { display: flex; gap: 1.5rem; align-items: center; margin-bottom: 2rem; }
h1 { font-size: clamp(1.4rem, 3vw, 2.1rem); font-weight: 600; letter-spacing: -.02em;
  line-height: 1.15; text-wrap: balance; overflow-wrap: anywhere; }
.query img { width: 110px; height: 130px; object-fit: contain; background: #fff;
  border-radius: 10px; border: 1px solid var(--line); display: block; }
.facts { list-style: none; padding: 0; margin-top: .7rem; display: flex; flex-wrap: wrap;
  gap: .4rem; }
.facts li { border: 1px solid var(--line); border-radius: 99px; padding: .1rem .7rem;
  color: var(--quiet); font-size: .85rem; }
main { display: grid; gap: 1.1rem; grid-template-columns: repeat(auto-fill, minmax(190px, 1fr)); }
article { background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  overflow: hidden; }
figure { background: #fff; aspect-ratio: 4 / 5; display: grid; place-items: center; }
figure img { width: 100%; height: 100%; object-fit: contain; padding: .6rem; min-height: 0; }
.missing { color: #8b877f; font-size: .85rem; }
.words { padding: .7rem .85rem .85rem; }
.rank { display: flex; justify-content: space-between; color: var(--quiet); font-size: .8rem;
  font-variant-numeric: tabular-nums; }
.rank span:first-child { color: var(--accent); font-weight: 700; }
h2 { font-size: .95rem; font-weight: 600; line-height: 1.3; margin-top: .15rem;
  overflow-wrap: anywhere; display: -webkit-box; -webkit-line-clamp: 3;
  -webkit-box-orient: vertical; overflow: hidden; }
.id { color: var(--quiet); font-size: .8rem; overflow-wrap: anywhere; }
details { margin-top: .5rem; font-size: .82rem; }
summary { cursor: pointer; color: var(--quiet); }
dl { display: grid; grid-template-columns: auto 1fr; gap: .1rem .6rem; margin-top: .4rem; }
dt { color: var(--quiet); }
dd { overflow-wrap: anywhere; }
.nothing { color: var(--quiet); grid-column: 1 / -1; }
"""
