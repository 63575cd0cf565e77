"""Which encoding a text has that is not Unicode, told by its letters.

Scripts are told apart by charset-normalizer. On texts as short as titles it confuses the encodings
of Latin letters, so those are chosen by alphabets: the right one gives words of one language. It
also takes kana for Chinese, so these are looked for first.
"""

import re

ENCODINGS = {
    "cp1252": "Windows-1252",
    "cp1250": "Windows-1250",
    "cp1254": "Windows-1254",
    "cp1257": "Windows-1257",
    "iso8859_2": "ISO-8859-2",
    "iso8859_15": "ISO-8859-15",
    "mac_roman": "Mac Roman",
    "cp850": "DOS 850",
    "cp852": "DOS 852",
    "cp1251": "Windows-1251",
    "koi8_r": "KOI8-R",
    "cp866": "DOS 866",
    "cp1253": "Windows-1253",
    "cp1255": "Windows-1255",
    "cp1256": "Windows-1256",
    "cp932": "Shift-JIS",
    "euc_jis_2004": "EUC-JP",
    "gb18030": "GBK",
    "cp950": "Big5",
    "cp949": "EUC-KR",
}
"""Encodings by Python's names; of equally likely ones the first is chosen."""

SUPERSETS = {
    **{"shift_jis": "cp932", "euc_jp": "euc_jis_2004", "gb2312": "gb18030", "gbk": "gb18030"},
    **{"big5": "cp950", "euc_kr": "cp949", "iso8859-1": "cp1252", "iso8859-9": "cp1254"},
    **{"tis-620": "cp874", "iso8859-11": "cp874"},
}
"""Encodings to those that programs mean by their names, with more letters."""

_LATIN = (
    *("cp1252", "cp1250", "cp1254", "cp1257", "iso8859_2", "iso8859_15", "mac_roman"),
    *("cp850", "cp852"),
)
_ALPHABETS = (
    "äöüß",  # German
    "àâæçéèêëîïôùûüÿœ",  # French
    "áéíóúüñªº",  # Spanish
    "áâãàçéêíóôõú",  # Portuguese
    "àèéìíòóùú",  # Italian
    "åäöæøéü",  # Danish, Norwegian, Swedish
    "áéëèïíóöúüĳ",  # Dutch
    "ąćęłńóśźż",  # Polish
    "áäčďéěíĺľňóôŕřšťúůýž",  # Czech, Slovak
    "áéíóöőúüű",  # Hungarian
    "ăâîşţșț",  # Romanian
    "čćđšž",  # Croatian, Slovene
    "ç\u011f\u0131iö\u015füâî",  # Turkish
    "ąčęėįšųūž",  # Lithuanian
    "āčēģīķļņšūž",  # Latvian
    "äöüõšž",  # Estonian
)
_SETS = tuple(frozenset(letters + letters.upper() + "İ") for letters in _ALPHABETS)
_KANA = re.compile("[ぁ-ヺー]{3,}")
MIN_KANA_SHARE = 0.25
"""Share of the characters beyond ASCII that are kana, three in a row, in Japanese."""
MIN_LETTERS_SHARE = 0.9
"""Share of the characters beyond ASCII that one alphabet and usual signs must cover."""

# Signs beyond ASCII; those between two letters are letters of another encoding.
_SIGN = re.compile(r"(?<![^\W\d_])[¼½¾°²³¹¡¿«»](?![^\W\d_])|[ –—‘’‚“”„•…€£¥©®™×·§´°²³»«]")  # noqa: RUF001
LATIN_SAMPLE_BYTES = 1 << 14


def guess_encoding(sample: bytes) -> str:
    """The most likely encoding of some lines, a key of ``ENCODINGS``."""
    for name in ("cp932", "euc_jis_2004"):
        text = sample.decode(name, "replace")
        n_kana = sum(map(len, _KANA.findall(text)))
        if n_kana and n_kana >= MIN_KANA_SHARE * sum(not c.isascii() for c in text):
            return name
    shares = {name: _share_of_letters(sample, name) for name in _LATIN}
    best = max(_LATIN, key=lambda name: shares[name])  # the first of equals
    if shares[best] >= MIN_LETTERS_SHARE:
        return best
    from charset_normalizer import from_bytes  # only for the few tables that need it

    found = from_bytes(sample, cp_isolation=list(ENCODINGS)).best()
    return found.encoding if found and found.encoding in ENCODINGS else best


def _share_of_letters(sample: bytes, encoding: str) -> float:
    """Share of the characters beyond ASCII that are letters of their line's language, or signs."""
    n_beyond = n_letters = 0
    for line in sample[:LATIN_SAMPLE_BYTES].decode(encoding, "replace").splitlines():
        n_beyond += sum(not c.isascii() for c in line)
        beyond = [c for c in _SIGN.sub("", line) if not c.isascii()]
        n_letters += sum(not c.isascii() for c in line) - len(beyond)
        n_letters += max(sum(c in letters for c in beyond) for letters in _SETS)
    return n_letters / max(1, n_beyond)
