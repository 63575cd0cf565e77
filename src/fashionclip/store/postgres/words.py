"""The words of products in PostgreSQL: kept beside the products, counted, and ranked by BM25.

``texts`` holds the words of each product, as ``fulltext.words_of`` makes them, with a GIN index. It
is a table of its own: a frequent word is read from few pages, and words change without the vectors.
``words`` counts the products of each word, which tells the rare from the frequent ones and the
misspelt from the known. Typos are compared here rather than on the server, so that a store answers
alike whether pg_trgm is installed or not.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from fashionclip.product import Product, Roles, Value
from fashionclip.store.fulltext import (
    K1,
    B,
    closest,
    endings_of,
    max_edits,
    plan,
    product_text,
    search_words,
    words_of,
)
from fashionclip.store.postgres.connections import Connection
from fashionclip.store.postgres.schema import Header, quoted

MAX_WORDS = 1_000  # of a product; a tsvector has at most 1 MB
MAX_RANKED = 32  # words of a query that are ranked by, the rarest ones
AHEAD = 2  # products with a rare word, per hit wanted, that may be enough
COMMON = 10_000  # products of a word that half of all have, from which it says nothing
ESTIMATED_FROM = 5_000  # products from which the planner's count of them will do
FILLED_ROWS = 2_048


@dataclass(frozen=True, slots=True)
class Round:
    """Products to rank, and when these are enough."""

    words: str
    """The words that they have, as a tsquery."""
    enough: float
    """What the last of k hits scores at least if no other product can score more."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """How the words of a query rank products."""

    score: str
    """SQL over ``texts``, with ``%s`` for each value: BM25, where each word counts once."""
    values: Sequence[Value]
    rounds: Sequence[Round]
    """To be tried in their order: first products with a rare word, for speed, then all."""


def indexed_words(product: Product, roles: Roles) -> list[str]:
    """The words that a product is found by, each once."""
    return list(dict.fromkeys(words_of(product_text(product, roles))))[:MAX_WORDS]


def ranking(connection: Connection, schema: str, text: str, *, k: int) -> Ranking | None:
    """How products are found and ranked by the words of a text; None where none has any of them.

    Source: Robertson and Zaragoza, "The Probabilistic Relevance Framework", 2009, equation 3.12,
        for words that occur once; the rounds after Turtle and Flood, "Query evaluation: strategies
        and optimizations", 1995 (MaxScore).
    """
    asked = {spelling for word in search_words(text) for spelling in word.looked_up}
    counts = _counts(connection, schema, asked)

    def similar(word: str) -> Sequence[str]:
        near = _similar(connection, schema, word)
        counts.update(near)
        return list(near)

    query = plan(text, is_known=counts.__contains__, similar=similar)
    if not query.words:
        return None
    n_products, mean_length = _size(connection, schema, max(counts.values()))
    rarest = sorted(query.words, key=lambda word: (counts[word], word))[:MAX_RANKED]
    weights = {word: (K1 + 1) * _idf(counts[word], n_products) for word in rarest}
    every = " & ".join(f"({_any_of(words)})" for words in query.required)
    terms = " + ".join(["%s * (_words @@ %s::tsquery)::int"] * len(weights))
    shortest, slope = 1 + K1 * (1 - B), K1 * B / mean_length
    n_rare = next((i for i in range(len(rarest)) if _total(counts, rarest[:i]) >= AHEAD * k), None)
    informative = [word for word in rarest if counts[word] <= max(COMMON, n_products / 2)]
    rounds = [Round(_any_of(informative or rarest), -math.inf)]
    if n_rare is not None:
        least = sum(weights[word] for word in rarest[n_rare:]) / shortest
        rounds.insert(0, Round(f"{_any_of(rarest[:n_rare])} | ({every})", least))
    return Ranking(
        score=(
            f"({terms}) / (%s::float8 + %s::float8 * length(_words))"
            " + %s * (_words @@ %s::tsquery)::int"
        ),
        values=[
            *(value for word, weight in weights.items() for value in (weight, f"'{word}'")),
            shortest,
            slope,
            sum(weights.values()) + 1,  # a product with all words scores above all others
            every,
        ],
        rounds=rounds,
    )


def _total(counts: Mapping[str, int], words: Sequence[str]) -> int:
    return sum(counts[word] for word in words)


def _counts(connection: Connection, schema: str, words: Iterable[str]) -> dict[str, int]:
    """Of some words, those that products have, with the number of these products."""
    found = connection.execute(
        f"SELECT word, n_products FROM {schema}.words WHERE word = ANY(%s) AND n_products > 0",
        [list(words)],
    )
    return dict(found.fetchall())


def _similar(connection: Connection, schema: str, word: str) -> dict[str, int]:
    """The words that are spelled most like one that no product has, with their products' number."""
    most, lengths = max_edits(word), sorted(map(len, endings_of(word)))
    # two long texts are read ten times as fast as thousands of rows
    row = connection.execute(
        "SELECT string_agg(word, ' '), string_agg(n_products::text, ' ')"
        f" FROM {schema}.words WHERE length(word) BETWEEN %s AND %s"
        " AND word !~ '[0-9]' AND n_products > 0",
        [lengths[0] - most, lengths[-1] + most],
    ).fetchone()
    words, numbers = ((text or "").split() for text in row or ("", ""))
    counts = dict(zip(words, map(int, numbers), strict=True))
    return {near: counts[near] for near in closest(word, words, count=counts.__getitem__)}


def _size(connection: Connection, schema: str, at_least: int) -> tuple[float, float]:
    """About how many products there are, and how many words one has."""
    row = connection.execute(
        "SELECT CASE WHEN reltuples >= %s THEN reltuples ELSE"
        f" (SELECT count(*) FROM {schema}.texts) END, (SELECT avg(length(_words)) FROM"
        f" (SELECT _words FROM {schema}.texts LIMIT 1000) AS sample)"
        " FROM pg_class WHERE oid = %s::regclass",
        [ESTIMATED_FROM, f"{schema}.texts"],
    ).fetchone()
    assert row is not None
    return max(float(row[0]), at_least), max(1.0, float(row[1] or 1))


def _idf(n_having: int, n_products: float) -> float:
    return math.log(1 + (n_products - n_having + 0.5) / (n_having + 0.5))


def _any_of(words: Iterable[str]) -> str:
    return " | ".join(f"'{word}'" for word in words)


def add(connection: Connection, schema: str, incoming: str) -> None:
    """Take in the words of products, in the place of what was there.

    Args:
        connection: in a transaction.
        schema: quoted.
        incoming: a table of ``_id`` and ``_words``, an array.
    """
    _count(
        connection,
        schema,
        f"SELECT word, 1 AS n FROM {incoming}, unnest(_words) AS word UNION ALL"
        f" SELECT lexeme, -1 FROM {schema}.texts AS old JOIN {incoming} USING (_id),"
        " unnest(old._words)",
        [],
    )
    connection.execute(
        f"INSERT INTO {schema}.texts AS old SELECT _id, array_to_tsvector(_words) FROM {incoming}"
        " ON CONFLICT (_id) DO UPDATE SET _words = EXCLUDED._words"
        " WHERE old._words <> EXCLUDED._words"
    )


def remove(connection: Connection, schema: str, ids: Sequence[str]) -> None:
    """Forget the words of products that are deleted."""
    gone = f"FROM {schema}.texts WHERE _id = ANY(%s)"
    lexemes = f"SELECT lexeme AS word, -1 AS n FROM (SELECT _words {gone}) AS gone, unnest(_words)"
    _count(connection, schema, lexemes, [ids])
    connection.execute(f"DELETE {gone}", [ids])


def _count(connection: Connection, schema: str, changes: str, values: Sequence[Any]) -> None:
    """Change the counts of words by a query's rows of word and difference."""
    connection.execute(
        f"INSERT INTO {schema}.words AS counted SELECT word, sum(n) FROM ({changes}) AS changed"
        " GROUP BY word HAVING sum(n) <> 0 ON CONFLICT (word) DO UPDATE"
        " SET n_products = counted.n_products + EXCLUDED.n_products",
        values,
    )


def fill(connection: Connection, schema: str, header: Header) -> None:
    """Make the words of every product anew."""
    connection.execute(f"DELETE FROM {schema}.texts; DELETE FROM {schema}.words")
    names = header.stored_names
    columns = "".join(f", {quoted(stored)}" for stored in names.values())
    connection.execute("CREATE TEMP TABLE filled (_id text, _words text[]) ON COMMIT DROP")
    with psycopg.ServerCursor(connection, "products") as cursor, connection.cursor() as target:
        cursor.execute(f"SELECT _id, _caption{columns} FROM {schema}.products", [], binary=True)
        while found := cursor.fetchmany(FILLED_ROWS):
            with target.copy("COPY filled FROM STDIN") as copy:
                for name, caption, *values in found:
                    stored = dict(zip(names, values, strict=True))
                    product = Product(name, caption, None, 0, stored)
                    copy.write_row([name, indexed_words(product, header.meta.roles)])
    connection.execute(
        f"INSERT INTO {schema}.texts SELECT _id, array_to_tsvector(_words) FROM filled;"
        "DROP TABLE filled"
    )
    connection.execute(
        f"INSERT INTO {schema}.words SELECT lexeme, count(*) FROM {schema}.texts, unnest(_words)"
        " GROUP BY lexeme"
    )


def tidy(connection: Connection, schema: str) -> None:
    """Forget words that no product has any more, and bring the index up to date."""
    connection.execute(f"DELETE FROM {schema}.words WHERE n_products <= 0")
    connection.execute(
        f"ANALYZE {schema}.texts; SELECT gin_clean_pending_list(indexrelid) FROM pg_index JOIN"
        f" pg_class ON oid = indexrelid WHERE indrelid = '{schema}.texts'::regclass AND relam ="
        " (SELECT oid FROM pg_am WHERE amname = 'gin')"
    )
