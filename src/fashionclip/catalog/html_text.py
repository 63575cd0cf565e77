"""HTML in cells as plain text: tags, entities, and characters that nobody sees.

Only tags of HTML's own names count, so that ``<3`` and ``a < b`` stay. Most cells have nothing of
the kind, which one look tells. A parser of whole pages would take twenty times as long.
"""

import re
from html import unescape
from html.entities import html5

_BLOCKS = (
    "address|article|aside|blockquote|br|center|dd|div|dl|dt|fieldset|figcaption|figure|footer|form"
    "|h[1-6r]|header|li|main|nav|ol|option|p|pre|section|select|table|tbody|td|tfoot|th|thead|tr|ul"
)
_OTHERS = (
    "a|abbr|acronym|audio|b|bdi|bdo|big|body|button|cite|code|data|del|dfn|em|embed|font|html|i|img"
    "|input|ins|kbd|label|link|mark|meta|object|picture|q|s|samp|small|source|span|strike|strong|sub|sup|time|tt"
    "|u|var|video|wbr"
)
_DROPPED = "head|iframe|noscript|script|style|svg|template|title"
_ATTRIBUTES = (
    r"""(?:\s+[\w:.-]+\s*=\s*(?:"[^"]*"|'[^']*'|[^\s"'<>]+)"""
    r"|\s+(?:allowfullscreen|async|autoplay|checked|controls|defer|disabled|hidden|loop|muted"
    r"|nowrap|selected|data-[\w-]+))*\s*/?>"
)
_TAG = re.compile(
    rf"<(?P<dropped>{_DROPPED})\b[^<>]*>.*?(?:</(?P=dropped)\s*>|\Z)|<!--.*?(?:-->|\Z)"
    rf"|<!doctype[^<>]*>|</?(?:(?P<block>{_BLOCKS})|{_OTHERS}|{_DROPPED}){_ATTRIBUTES}",
    re.IGNORECASE | re.DOTALL,
)
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});")
_CLOSED = re.compile(r"</[a-z]|<br", re.IGNORECASE)
_UNSEEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u200b\u2060\ufeff\ufff9-\ufffb]|[\ud800-\udfff]"
)


def plain_text(text: str) -> str:
    """Text without HTML tags, entities, and unseen characters.

    Blocks become lines; scripts, styles and comments go. What only looks like HTML stays:
    ``a < b``, ``<3``, ``AT&T``. HTML that was escaped twice is unescaped twice. Of XML's
    ``<![CDATA[text]]>`` the text stays.
    """
    has_html = "<" in text or "&" in text
    if text.isprintable() and not has_html:
        return text
    return _UNSEEN.sub(_seen, _without_html(text) if has_html else text)


def _seen(match: re.Match[str]) -> str:
    """A space for a line's end, a replacement character for half a character, else nothing."""
    if match[0] in "\x0b\x0c\x85":
        return " "
    return "\ufffd" if "\ud800" <= match[0] <= "\udfff" else ""


def _without_html(text: str) -> str:
    if "<![CDATA[" in text:
        text = text.replace("<![CDATA[", "").replace("]]>", "")
    if "<" in text and _TAG.search(text):
        text = _without_tags(text)
    else:
        text = _ENTITY.sub(_character, text)
        if _CLOSED.search(text) and _TAG.search(text):  # the tags were escaped as well
            text = _without_tags(text)
    return _ENTITY.sub(_character, text) if "&" in text else text


def _without_tags(text: str) -> str:
    """Text between tags; the source's line ends are spaces, and blocks are lines."""
    text = _TAG.sub(lambda tag: "\n" if tag["block"] else "", " ".join(text.splitlines()))
    lines = (" ".join(line.split()) for line in _ENTITY.sub(_character, text).split("\n"))
    return "\n".join(filter(None, lines))


def _character(match: re.Match[str]) -> str:
    entity = match[0]
    is_known = entity[1] == "#" or entity[1:] in html5
    return unescape(entity).replace("\xa0", " ") if is_known else entity
