"""The words of a Lance table's products: their column, its full-text index, and searches in it.

Lance splits the column at its blanks and changes nothing, since ``fulltext.words_of`` made it. Rows
that the index does not cover yet are searched too, but Lance forgives misspelt words only in its
index. Such rows are few, so their words are read.
"""

from functools import cached_property
from typing import Any

import lance
import pyarrow as pa
from lance.query import BooleanQuery, FullTextOperator, MatchQuery, Occur

from fashionclip.product import Roles
from fashionclip.store.fulltext import WordQuery, closest, endings_of, max_edits, plan
from fashionclip.store.lance import schema
from fashionclip.store.lance.schema import kinds_in

MAX_CACHED_WORDS = 10_000
MAX_EXPANSIONS = 500  # words of the index that Lance takes for a misspelt one
MAX_COUNTED = 1_000  # products that have a word
MAX_ROWS_READ = 1_000  # for the words in them that are spelled alike

Dataset = Any
Query = Any


def drop_unfinished(table: Dataset) -> None:
    """Remove the columns of a change that was killed."""
    left_over = [name for name in table.schema.names if name.startswith(("_new_", "_old_"))]
    if left_over:
        table.drop_columns(left_over)


def index_words(table: Dataset, column: str = schema.WORDS) -> None:
    """Build the full-text index of a column of words."""
    table.create_scalar_index(
        column,
        "INVERTED",
        name=f"words-{table.version}",
        base_tokenizer="whitespace",
        max_token_length=None,
        lower_case=False,
        stem=False,
        remove_stop_words=False,
        ascii_folding=False,
    )


def write_words(table: Dataset, roles: Roles) -> None:
    """Write the words of all products anew, as some roles have them, and their index.

    The new column and its index take the place of the old ones in one commit.
    """
    drop_unfinished(table)
    sources = schema.word_sources(kinds_in(table.schema), roles)
    fresh, old = f"_new_{schema.WORDS}", f"_old_{schema.WORDS}"

    @lance.batch_udf(output_schema=pa.schema([pa.field(fresh, pa.string())]))
    def words(batch: pa.RecordBatch) -> pa.RecordBatch:
        texts = [schema.words_in(row, roles) for row in batch.to_pylist()]
        return pa.RecordBatch.from_arrays([pa.array(texts, pa.string())], [fresh])

    table.add_columns(words, sources)
    index_words(table, fresh)
    if schema.WORDS not in table.schema.names:  # a store of format 2
        table.alter_columns({"path": fresh, "name": schema.WORDS})
        return
    table.alter_columns({"path": schema.WORDS, "name": old}, {"path": fresh, "name": schema.WORDS})
    table.drop_columns([old])


class Vocabulary:
    """The words that the products of one version of a table have, as far as they were asked for."""

    def __init__(self, table: Dataset) -> None:
        """Begin without knowledge."""
        self.table = table
        self._known: dict[str, bool] = {}
        self._similar: dict[str, tuple[str, ...]] = {}

    def plan(self, text: str) -> WordQuery:
        """The words of a text to look for, misspelt ones corrected."""
        return plan(text, is_known=self._is_known, similar=self._closest)

    def _is_known(self, word: str) -> bool:
        known = self._known.get(word)
        if known is None:
            if len(self._known) >= MAX_CACHED_WORDS:
                self._known.clear()
            known = self._known[word] = bool(self._count(word, limit=1))
        return known

    def _count(self, word: str, *, limit: int = MAX_COUNTED) -> int:
        """How many products have a word, up to a limit."""
        query = MatchQuery(word, schema.WORDS)
        scanner = self.table.scanner(columns=["_score"], full_text_query=query, limit=limit)
        return int(scanner.to_table().num_rows)

    def _closest(self, word: str) -> tuple[str, ...]:
        similar = self._similar.get(word)
        if similar is None:
            if len(self._similar) >= MAX_CACHED_WORDS:
                self._similar.clear()
            near = {*self._recent, *self._indexed_near(word)}
            similar = self._similar[word] = closest(word, near, count=self._count)
        return similar

    def _indexed_near(self, word: str) -> set[str]:
        """Words of the index that may be meant by one that it does not have."""
        forms = endings_of(word)
        swapped = [
            form[:i] + form[i + 1] + form[i] + form[i + 2 :]
            for form in forms
            for i in range(len(form) - 1)
        ]
        found = self._words_like(" ".join(dict.fromkeys([*forms, *swapped])), edits=1)
        if max_edits(word) == 1 or closest(word, found):
            return found
        return found | self._words_like(forms[0], edits=2)

    def _words_like(self, asked: str, *, edits: int) -> set[str]:
        query = MatchQuery(asked, schema.WORDS, fuzziness=edits, max_expansions=MAX_EXPANSIONS)
        rows = self.table.scanner(
            columns=[schema.WORDS, "_score"], full_text_query=query, limit=MAX_ROWS_READ
        ).to_table()
        return _distinct(rows)

    @cached_property
    def _recent(self) -> set[str]:
        """The words of the products that the index does not cover yet."""
        table = self.table
        covered = {
            number
            for index in table.describe_indices()
            if index.field_names == [schema.WORDS]
            for segment in index.segments
            for number in segment.fragment_ids
        }
        fragments = [one for one in table.get_fragments() if one.fragment_id not in covered]
        if not fragments:
            return set()
        return _distinct(table.scanner(columns=[schema.WORDS], fragments=fragments).to_table())


def _distinct(rows: pa.Table) -> set[str]:
    return {word for text in rows[schema.WORDS].to_pylist() for word in text.split(" ")}


def queries(words: WordQuery) -> tuple[Query, Query]:
    """Lance's queries for the products that have all words, and for those that have any."""
    anywhere = MatchQuery(" ".join(words.words), schema.WORDS)
    if len(words.required) == 1:
        return anywhere, anywhere
    if all(len(some) == 1 for some in words.required):
        text = " ".join(word for (word,) in words.required)
        return MatchQuery(text, schema.WORDS, operator=FullTextOperator.AND), anywhere
    each = [MatchQuery(" ".join(some), schema.WORDS) for some in words.required]
    return BooleanQuery([(Occur.MUST, one) for one in each]), anywhere
