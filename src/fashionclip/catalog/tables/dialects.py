"""How a delimited table is written, told by its own lines: delimiter, header, quotes, backslashes.

Delimiter and header are those that split a sample best: a header is as wide as the rows below it.
Lines above it (a title, comments, a template's instructions) are stepped over only if they are
unlike rows. Backslashes escape something if fewer rows break the rules of quoting that way.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

from fashionclip.catalog.tables.records import Dialect, RecordReader
from fashionclip.catalog.tables.table import UsualRole
from fashionclip.catalog.tables.text import TextFile

DELIMITERS = ",;\t|"
SAMPLE_LINES = 60
SAMPLE_CHARS = 200_000
MAX_HEADER_RECORDS = 30
"""The header is looked for among so many records."""
MIN_TELLING_NAMES = 3
"""A row with so many usual names holds no values."""
MIN_REGULAR_SHARE = 0.5
"""Share of a sample's rows that must be as wide as the header."""
MAX_JUDGED_RECORDS = 100_000
"""Records by which the meaning of backslashes is decided."""

_EXCEL_HINT = re.compile(r"\ufeff?sep=(.)[\r\n]*")  # a first line that Excel writes and reads
_SETTING = re.compile(r"\w+=\S.*", re.DOTALL)  # first in the line above a template
_IDENTIFIER = re.compile(r"[a-z](?:[a-z0-9_.:#-]|\[[\w=-]*\])*")  # a technical name below its label
_VALUE = re.compile(r"[-+\d.,\s]*\d[-+\d.,\s]*|https?://.*|.*\.(jpe?g|png|webp|gif)", re.IGNORECASE)
_FORMULA = re.compile(r'(?:^|[,;\t|])"?=(""?)[^"]*\1')
_LONE_BACKSLASH = re.compile(r"(?:[^\\]|^)(?:\\\\)*\\[^\\\"'NnrtbZ0,;|\t\r\n]")
_DOUBLED_QUOTE = re.compile(r'[^",;|\t\\]""[^",;|\t\r\n]')


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a table's header is, and how its lines are read."""

    dialect: Dialect
    n_above: int = 0
    """Lines above the header."""
    notes: tuple[str, ...] = ()


def find_layout(file: TextFile, *, usual_role: UsualRole) -> Layout:
    """Decide how a table is written.

    Args:
        file: the table.
        usual_role: the role that a column of a name usually has, if any.
    """
    sample = _take_sample(file)
    hint = _EXCEL_HINT.fullmatch(sample[0]) if sample else None
    n_hint = 1 if hint else 0
    delimiters = hint[1] if hint else DELIMITERS
    splits = [_split(sample[n_hint:], delimiter, usual_role) for delimiter in delimiters]
    best = max(splits, key=lambda split: split.fit)
    is_split = bool(hint) or any(best.fit[:2])
    dialect = best.dialect if is_split else Dialect()
    n_above = n_hint + (best.n_above if is_split else 0)
    notes: list[str] = []
    if n_above > n_hint:
        shown = " ".join(sample[n_hint].split())[:60]
        notes.append(f"the header is line {n_above + 1}; stepped over above it: '{shown}'")
    if any(re.search(rf"{re.escape(dialect.delimiter)} +\"[^\"]", line) for line in sample):
        spaced = replace(dialect, skips_space=True)
        if _n_faults(file, spaced, n_above) <= _n_faults(file, dialect, n_above):
            dialect = spaced
    if file.has_backslash:
        dialect = _with_escapes(file, dialect, n_above)
    if dialect.escapes:
        escaped = "quotation marks" if dialect.escapes == "quotes" else "the character after it"
        notes.append(rf"a backslash escapes {escaped} (\" is a quotation mark, \N an empty field)")
    if any(map(_FORMULA.search, sample)):
        notes.append('a cell such as ="00123" is the text in it, as Excel shows it: 00123')
    return Layout(dialect, n_above, tuple(notes))


def looks_like_values(fields: Sequence[str], *, usual_role: UsualRole) -> bool:
    """Whether a first record holds values (numbers, places of images) and no columns' names."""
    if any(usual_role(field) for field in fields):
        return False
    return any(_VALUE.fullmatch(field.strip()[:200]) for field in fields)


@dataclass(frozen=True, slots=True)
class _Split:
    """How well a delimiter splits a sample."""

    dialect: Dialect
    n_above: int
    fit: tuple[bool, bool, float]
    """Whether a column has a usual name, whether it splits it into regular rows, and how many
    fields the regular rows have; larger is better."""


def _take_sample(file: TextFile) -> list[str]:
    sample: list[str] = []
    n_chars = 0
    for line in islice(file.lines(), SAMPLE_LINES):
        sample.append(line)
        n_chars += len(line)
        if n_chars > SAMPLE_CHARS:
            break
    return sample


def _split(sample: Sequence[str], delimiter: str, usual_role: UsualRole) -> _Split:
    dialect = Dialect(delimiter)
    if (first := next(filter(str.strip, sample), "").strip()) and _is_single_quoted(
        first.split(delimiter)
    ):
        dialect = Dialect(delimiter, quote="'")
    starts: list[int] = []  # lines above each record
    records: list[list[str]] = []
    parser = dialect.parse(sample)
    n_lines = 0
    for record in parser:
        if len(record) > 1 or (record and record[0].strip()):
            starts.append(n_lines)
            records.append(record)
        n_lines = parser.line_num
    if not records:
        return _Split(dialect, 0, (False, False, 0.0))
    i_header = find_header(records, usual_role)
    header, below = records[i_header], records[i_header:]
    share = sum(len(record) == len(header) for record in below) / len(below)
    is_regular = len(header) > 1 and share >= MIN_REGULAR_SHARE
    is_usual = len(header) > 1 and any(map(usual_role, header))
    return _Split(dialect, starts[i_header], (is_usual, is_regular, share * len(header)))


def find_header(records: Sequence[Sequence[str]], usual_role: UsualRole) -> int:
    """The first record that is as wide as most and has a usual name; 0 if there is none.

    A record above it that could itself be a header or a row keeps it from being one, unless the one
    below has more than twice as many usual names.
    """
    records = records[:MAX_HEADER_RECORDS]
    n_usual = [sum(map(bool, map(usual_role, record))) for record in records]
    widths = Counter(len(record) for record in records if len(record) > 1)
    width = max(widths, key=lambda n: widths[n], default=0)
    for i, record in enumerate(records):
        if record[0].lstrip().startswith("#") or (len(record) > 1 and _SETTING.match(record[0])):
            continue
        if i == 0 and n_usual[0]:  # of one column, or of fewer than the rows have
            return _below_labels(records, n_usual, _best(records, n_usual, width))
        if len(record) < 2 or len(record) != width:
            continue
        if n_usual[i] and not _is_sparse(record):
            return _below_labels(records, n_usual, i)
        n_below = n_usual[i + 1] if i + 1 < len(records) else 0
        is_remark = n_below >= MIN_TELLING_NAMES and n_below * 2 >= len(records[i + 1])
        if not (_is_sparse(record) or is_remark):
            return 0
    return 0


def _best(records: Sequence[Sequence[str]], n_usual: Sequence[int], width: int) -> int:
    """The record with most usual names, if it says far more than the first; else the first."""
    best = max(range(len(records)), key=n_usual.__getitem__)
    n_filled = sum(bool(field.strip()) for field in records[best])
    is_header = n_usual[best] >= MIN_TELLING_NAMES and n_usual[best] * 2 >= n_filled
    return (
        best if is_header and n_usual[best] > 2 * n_usual[0] and len(records[best]) == width else 0
    )


def _is_sparse(record: Sequence[str]) -> bool:
    """Whether half of the fields are empty, as in the settings above a template."""
    return sum(not field.strip() for field in record) * 2 >= len(record)


def _below_labels(records: Sequence[Sequence[str]], n_usual: Sequence[int], i_header: int) -> int:
    """The technical names in the row below their labels, as in Amazon's templates, if it is so."""
    i = i_header + 1
    if i == len(records) or len(records[i]) < 5:
        return i_header
    names = [field.strip() for field in records[i] if field.strip()]
    n_technical = sum("_" in name or "#" in name for name in names)
    is_telling = n_usual[i] >= MIN_TELLING_NAMES or n_technical * 2 >= max(10, len(names))
    are_names = len(set(names)) == len(names) and all(map(_IDENTIFIER.fullmatch, names))
    has_labels = not all(map(_IDENTIFIER.fullmatch, filter(str.strip, records[i_header])))
    return i if is_telling and are_names and has_labels else i_header


def _is_single_quoted(fields: Sequence[str]) -> bool:
    return all(len(field) > 2 and field[0] == field[-1] == "'" for field in map(str.strip, fields))


def _with_escapes(file: TextFile, dialect: Dialect, n_above: int) -> Dialect:
    """The dialect with what a backslash escapes in it, if anything."""
    sign = re.escape(dialect.delimiter)
    null = re.compile(rf"(?:^|{sign})\s*\"?\\N\"?\s*(?:{sign}|$)")
    telling = re.compile(rf"\\[\"'\r\n{sign}]")
    has_null = is_telling = has_lone = False
    for line in islice(file.lines(), MAX_JUDGED_RECORDS):
        if "\\" in line:
            has_null = has_null or bool(null.search(line.rstrip("\r\n")))
            is_telling = is_telling or bool(telling.search(line))
            has_lone = has_lone or bool(_LONE_BACKSLASH.search(line))
        has_lone = has_lone or ('""' in line and bool(_DOUBLED_QUOTE.search(line)))
    if not (has_null or is_telling):
        return dialect
    escaped = replace(dialect, escapes="quotes" if has_lone else "all")
    gain = _n_faults(file, dialect, n_above) - _n_faults(file, escaped, n_above)
    return escaped if gain > 0 or (gain == 0 and has_null) else dialect


def _n_faults(file: TextFile, dialect: Dialect, n_above: int) -> int:
    """Records that break the rules of a dialect."""
    reader = RecordReader(islice(file.lines(), n_above, None), dialect)
    header = reader.read(None)
    width = len(header) if isinstance(header, list) else None
    for _ in range(MAX_JUDGED_RECORDS):
        if reader.read(width) is None:
            break
    return reader.n_faults
