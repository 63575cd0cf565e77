"""HTML in cells as plain text: tags, entities, and characters that nobody sees.

Most cells have nothing of the kind, which one look tells.
"""

import re
from html import unescape
from html.entities import html5
from html.parser import HTMLParser

_BLOCK_NAMES = (
    "address article aside blockquote br center dd div dl dt fieldset figcaption figure "
    "footer form h1 h2 h3 h4 h5 h6 header hr li main nav ol option p pre section select table "
    "tbody td tfoot th thead tr ul"
)
_DROPPED_NAMES = "script style template noscript head title iframe svg"
_OTHER_NAMES = (
    "a abbr acronym audio b big body button cite code del em embed font html i img input ins kbd "
    "label link mark meta object picture q s samp small source span strike strong sub sup time tt "
    "u var video wbr"
)
_BLOCKS, _DROPPED = frozenset(_BLOCK_NAMES.split()), frozenset(_DROPPED_NAMES.split())
_TAGS = _BLOCKS | _DROPPED | frozenset(_OTHER_NAMES.split())
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});")
_TAG = re.compile(
    rf"</?(?:{'|'.join(sorted(_TAGS))})(?:\s+[\w:-]+\s*=\s*(?:\"[^\"]*\"|'[^']*'|[^\s>\"']+))*\s*/?>"
    r"|<!--.*?-->|<!doctype\b|<(?:script|style)\b",
    re.IGNORECASE | re.DOTALL,
)
_CLOSED = re.compile(r"</[a-z]|<br", re.IGNORECASE)
_UNSEEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u200b\u2060\ufeff\ufff9-\ufffb]|[\ud800-\udfff]"
)


def plain_text(text: str) -> str:
    """Text without HTML tags, entities, and unseen characters.

    Blocks become lines; scripts, styles and comments go. What only looks like HTML stays:
    ``a < b``, ``<3``, ``AT&T``. HTML that was escaped twice is unescaped twice.
    """
    if text.isprintable() and "<" not in text and "&" not in text:
        return text
    return _UNSEEN.sub(_seen, _without_html(text))


def _seen(match: re.Match[str]) -> str:
    """A space for a line's end, a replacement character for half a character, else nothing."""
    if match[0] in "\x0b\x0c\x85":
        return " "
    return "\ufffd" if match[0] >= "\ud800" and match[0] <= "\udfff" else ""


def _without_html(text: str) -> str:
    if "<" in text and _TAG.search(text):
        text = _parsed(text)
    elif "&" in text:
        text = _ENTITY.sub(_character, text)
        if _CLOSED.search(text) and _TAG.search(text):  # the tags were escaped as well
            return _parsed(text)
    return _ENTITY.sub(_character, text) if "&" in text else text


def _character(match: re.Match[str]) -> str:
    entity = match[0]
    is_known = entity[1] == "#" or entity[1:] in html5
    return unescape(entity).replace("\xa0", " ") if is_known else entity


def _parsed(text: str) -> str:
    parser = _Parser()
    parser.feed(text)
    parser.close()
    lines = (" ".join(line.split()) for line in "".join(parser.parts).split("\n"))
    return "\n".join(filter(None, lines))


class _Parser(HTMLParser):
    """Gathers the text between tags; source lines are spaces, blocks are lines."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._dropped: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in _DROPPED:
            self._dropped.append(tag)
        elif tag not in _TAGS:
            self.handle_data(self.get_starttag_text() or "")
        self._break(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        if tag not in _TAGS:
            self.handle_data(self.get_starttag_text() or "")
        self._break(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._dropped:
            del self._dropped[self._dropped.index(tag) :]
        elif tag not in _TAGS:
            self.handle_data(f"</{tag}>")
        self._break(tag)

    def handle_data(self, data: str) -> None:
        if not self._dropped:
            self.parts.append(" ".join(data.splitlines()) if "\n" in data or "\r" in data else data)

    def _break(self, tag: str) -> None:
        if tag in _BLOCKS and not self._dropped:
            self.parts.append("\n")
