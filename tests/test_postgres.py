"""What is particular to the store in PostgreSQL; the contract is in ``test_store_contract.py``."""

import itertools
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fashionclip.errors import (
    ModelMismatchError,
    StoreError,
    StoreFormatError,
    StoreFullError,
    StoreLockedError,
)
from fashionclip.product import Product, Roles
from fashionclip.store import StoreMeta, create_store, holds_store, open_store, read_meta
from fashionclip.store.filters import parse_filter
from fashionclip.store.postgres import schema, writer
from fashionclip.store.postgres import store as reading
from fashionclip.store.rows import as_kept
from postgres_server import PostgresServer

DIM = 16
META = StoreMeta(uri="", model="tiny", fingerprint="f" * 16, dim=DIM)
COUNTER = itertools.count()


@pytest.fixture
def uri(postgres_uri, request):
    return f"{postgres_uri}&store={abs(hash(request.node.name)) % 10**12}"


@pytest.fixture
def store(uri):
    made = create_store(uri, META)
    yield made
    made.close()


@pytest.fixture
def admin(postgres_uri):
    with psycopg.connect(postgres_uri, autocommit=True) as connection:
        yield connection


def schema_of(uri):
    return uri.rpartition("store=")[2]


def unit_vectors(n, *, seed=0):
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(40, DIM))
    vectors = centres[generator.integers(40, size=n)] + 0.5 * generator.normal(size=(n, DIM))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def products(n, *, start=0):
    return [
        Product(f"p{i}", f"blue dress {i}", f"{i}.jpg", i, {"price": i, "colour": f"c{i % 7}"})
        for i in range(start, start + n)
    ]


def upsert(store, items, *, seed=0):
    with store.writer() as one:
        one.upsert(items, unit_vectors(len(items), seed=seed), [bytes(16)] * len(items))


def found(store, query, **options):
    return [hit.product_id for hit in store.nearest(query, k=10, **options)[0]]


def by_words(store, text, **options):
    return [hit.product_id for hit in store.text_search(text, k=100, **options)]


def one_line(error):
    text = str(error.value)
    assert "\n" not in text
    return text


# addresses


def test_several_stores_are_in_one_database_and_the_default_has_a_name(postgres_uri):
    first = create_store(postgres_uri, META)
    other = create_store(f"{postgres_uri}&store=winter-26", META)
    upsert(first, products(3))
    upsert(other, products(1))
    assert (len(first), len(other)) == (3, 1)
    assert holds_store(f"{postgres_uri}&store=fashionclip")
    assert read_meta(f"{postgres_uri}&store=winter-26").uri.endswith("store=winter-26")
    first.close()
    other.close()


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("postgresql://h/db?store=a;b", "is no name: take letters, digits"),
        ("postgresql://h/db?store=pg_catalog", "is no name"),
        ("postgresql://h/db?nonsense=1", "is no address of PostgreSQL: write postgresql://USER"),
        ("postgresql://h:port/db", "cannot be reached: "),
        ("postgresql://me:s3cret@127.0.0.1:1/db", "cannot be reached: .* Connection refused"),
        ("postgresql://me@127.0.0.1:1/db?store=x&password=s3cret&sslmode=disable", "refused"),
        ("postgresql://127.0.0.1:1/db?sslpassword=s3cret&sslmode=disable", "refused"),
        ("postgresql://me:a@s3cret@127.0.0.1:1/db", "is no address .* %40 for @"),
        ("postgresql://me:1/s3cret@127.0.0.1:1/db", "is no address .* %2F for /"),
        ("postgresql://me:1/b@s3cret@127.0.0.1:1/db", "is no address"),
        ("postgresql://me:a#s3cret@127.0.0.1:1/db", "is no address .* %23 for #"),
        ("postgresql://me:%zzs3cret@127.0.0.1:1/db", "is no address .* %25 for %"),
    ],
)
def test_a_wrong_address_is_one_line_without_the_password(uri, why):
    with pytest.raises(StoreError, match=why) as error:
        open_store(uri)
    assert "s3cret" not in one_line(error)
    assert "s3cret" not in repr(error.value.__cause__)


def test_a_password_that_is_wrong_is_named_and_not_shown(postgres_server, postgres_uri, admin):
    rules = postgres_server.folder / "pg_hba.conf"
    before = rules.read_text()
    admin.execute("CREATE ROLE guarded LOGIN PASSWORD 'right'")
    rules.write_text("local all guarded scram-sha-256\n" + before)
    admin.execute("SELECT pg_reload_conf()")
    try:
        with pytest.raises(
            StoreError, match="the server refuses the password: check user"
        ) as error:
            open_store(postgres_uri.replace("postgres@", "guarded:s3cret@"))
        assert "s3cret" not in one_line(error)
        denied = "this user may not do that .permission denied"
        with pytest.raises(StoreError, match=denied) as error:
            create_store(postgres_uri.replace("postgres@", "guarded:right@") + "&store=no", META)
        assert "right@" not in one_line(error)
    finally:
        rules.write_text(before)
        admin.execute("SELECT pg_reload_conf()")


def test_a_user_who_may_only_read_can_search(postgres_uri, admin, store, uri):
    upsert(store, products(20))
    name = schema_of(uri)
    admin.execute(
        f"""CREATE ROLE reader LOGIN; GRANT USAGE ON SCHEMA "{name}" TO reader;
        GRANT SELECT ON ALL TABLES IN SCHEMA "{name}" TO reader"""
    )
    reader = open_store(uri.replace("postgres@", "reader@"))
    where = parse_filter("price < 5", reader.meta.columns)
    assert len(found(reader, unit_vectors(1), where=where)) == 5
    assert len(reader.text_search("dress", k=3)) == 3
    assert sum(len(rows.ids) for rows in reader.scan()) == 20
    with pytest.raises(StoreError, match=r"this user may not do that \(.*\): grant") as error:
        upsert(reader, products(1))
    one_line(error)
    reader.close()


def test_a_store_that_the_user_may_not_read_is_not_taken_for_a_missing_one(
    postgres_uri, admin, store, uri
):
    admin.execute("CREATE ROLE stranger LOGIN")
    stranger = uri.replace("postgres@", "stranger@")
    with pytest.raises(
        StoreError, match=r"may not do that \(permission denied for schema"
    ) as error:
        open_store(stranger)
    one_line(error)
    assert holds_store(stranger)


def test_a_database_that_is_not_there_is_named(postgres_uri):
    with pytest.raises(
        StoreError, match="the server has no database of this name: create"
    ) as error:
        open_store(postgres_uri.replace("/tests?", "/nowhere?"))
    one_line(error)


# what is there already


def test_tables_that_are_not_ours_are_left_alone(admin, uri):
    name = schema_of(uri)
    admin.execute(f'CREATE SCHEMA "{name}"; CREATE TABLE "{name}".products (sku text)')
    admin.execute(f"INSERT INTO \"{name}\".products VALUES ('theirs')")
    assert not holds_store(uri)
    with pytest.raises(StoreError, match=r"tables that are no index \(products\): choose") as error:
        create_store(uri, META)
    one_line(error)
    with pytest.raises(StoreError, match="there is no index at"):
        open_store(uri)
    assert admin.execute(f'SELECT sku FROM "{name}".products').fetchall() == [("theirs",)]


def test_a_schema_that_was_made_for_the_store_is_used(admin, uri):
    admin.execute(f'CREATE SCHEMA "{schema_of(uri)}"')
    create_store(uri, META).close()
    assert holds_store(uri)


def test_a_newer_format_is_refused(admin, store, uri):
    admin.execute(f'UPDATE "{schema_of(uri)}".store SET version = 99')
    with pytest.raises(StoreFormatError, match=r"has format 99 .* upgrade fashionclip") as error:
        open_store(uri)
    one_line(error)


def make_old(admin, uri):
    """Take a store back to the first format, which had the words of captions only."""
    admin.execute(
        f"""SET search_path = "{schema_of(uri)}"; ALTER TABLE store DROP COLUMN relevance_threshold;
        ALTER TABLE store DROP COLUMN vectors; DROP TABLE texts; DROP TABLE words;
        ALTER TABLE products ADD COLUMN _words tsvector NOT NULL DEFAULT '';
        UPDATE store SET version = 1; RESET search_path"""
    )


def test_an_older_format_is_migrated_in_one_go_and_that_is_logged(store, uri, admin, caplog):
    with store.writer() as one:
        one.set_roles(Roles(brand="brand"))
    upsert(store, [*products(3), Product("s1", "a shoe", None, 9, {"brand": "Nike"})])
    make_old(admin, uri)
    with caplog.at_level(logging.WARNING):
        migrated = open_store(uri)
    assert f"was brought from format 1 to {schema.newest_version()}" in caplog.text
    assert len(migrated) == 4
    assert migrated.meta.relevance_threshold is None
    assert by_words(migrated, "nikee") == ["s1"]
    assert len(by_words(migrated, "dresses")) == 3
    with migrated.writer() as one:
        one.set_relevance_threshold(0.25)
        one.delete(["s1"])
    assert by_words(migrated, "nike") == []
    assert read_meta(uri).relevance_threshold == 0.25
    caplog.clear()
    open_store(uri).close()
    assert not caplog.text
    migrated.close()


def test_a_store_from_before_the_forms_of_vectors_holds_floats(store, uri, admin):
    upsert(store, products(3))
    name = schema_of(uri)
    admin.execute(f'ALTER TABLE "{name}".store DROP COLUMN vectors')
    admin.execute(f'UPDATE "{name}".store SET version = 2')
    migrated = open_store(uri)
    assert migrated.meta.vectors == "float"
    np.testing.assert_array_equal(migrated.fetch(["p1"]).vectors[0], unit_vectors(3)[1])
    assert len(by_words(migrated, "dress")) == 3
    assert migrated.verify().damaged == ()
    migrated.close()


def test_only_who_may_change_a_store_migrates_it_and_all_who_read_it_go_on(store, uri, admin):
    upsert(store, products(3))
    make_old(admin, uri)
    admin.execute(
        f"""CREATE ROLE looker LOGIN; GRANT USAGE ON SCHEMA "{schema_of(uri)}" TO looker;
        GRANT SELECT ON ALL TABLES IN SCHEMA "{schema_of(uri)}" TO looker"""
    )
    read_only = f"{uri}&options=-c%20default_transaction_read_only%3Don"
    for looking in (uri.replace("postgres@", "looker@"), read_only):
        with pytest.raises(StoreError, match=r"has an older format, .*: open it once as") as error:
            open_store(looking)
        one_line(error)
    open_store(uri).close()
    reader = open_store(uri.replace("postgres@", "looker@"))
    assert len(by_words(reader, "dress")) == 3
    reader.close()


def test_a_migration_that_fails_changes_nothing(store, uri, admin, monkeypatch):
    steps = ["ALTER TABLE {schema}.products ADD COLUMN _weight real", "SELECT nonsense"]
    monkeypatch.setattr(schema, "MIGRATIONS", [*schema.MIGRATIONS, *steps])
    with pytest.raises(StoreError, match="nonsense"):
        open_store(uri)
    monkeypatch.undo()
    assert len(open_store(uri)) == 0


def test_a_server_without_pgvector_is_named_with_the_mend(postgres_server):
    bare = postgres_server.new_database("bare")
    with psycopg.connect(postgres_server.uri, autocommit=True) as connection:
        connection.execute("ALTER DATABASE bare SET extension_control_path = '/nowhere'")
    with pytest.raises(StoreError, match="has no pgvector: install it there") as error:
        create_store(bare, META)
    one_line(error)


# faults while it is used


def test_a_read_survives_a_connection_that_was_lost(store, admin):
    upsert(store, products(20))
    for _ in range(2):
        terminate_all(admin)
        assert len(store) == 20
        terminate_all(admin)
        assert len(found(store, unit_vectors(1))) == 10


def terminate_all(admin):
    admin.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE application_name LIKE 'fashionclip%%'",
        [],
    )


def test_an_upsert_survives_it_too_and_a_delete_says_that_it_is_unknown(store, admin):
    with store.writer() as one:
        one.upsert(products(5), unit_vectors(5), [bytes(16)] * 5)
        terminate_all(admin)
        one.upsert(products(5, start=5), unit_vectors(5), [bytes(16)] * 5)
        terminate_all(admin)
        with pytest.raises(StoreError, match="was lost while deleting products: run it again"):
            one.delete(["p1"])
        assert one.delete(["p1"]) == 1
    assert len(store) == 9
    upsert(store, products(1, start=20))


def test_a_writer_that_lost_the_lock_meanwhile_does_not_write(store, admin, monkeypatch):
    monkeypatch.setattr(writer, "RELOCK_TIMEOUT_S", 0.3)
    with store.writer() as one:
        terminate_all(admin)
        thread_done = threading.Event()

        def hold():
            with store.writer():
                thread_done.wait(30)

        thread = threading.Thread(target=hold)
        thread.start()
        while not admin.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
                                " AND granted").fetchone()[0]:  # fmt: skip
            pass
        for _ in range(2):
            with pytest.raises(StoreLockedError, match="is being written to by fashionclip on "):
                one.upsert(products(5), unit_vectors(5), [bytes(16)] * 5)
        thread_done.set()
        thread.join()
    assert len(store) == 0


def test_a_full_disk_is_named_and_leaves_what_was_there(store, admin, uri):
    upsert(store, products(3))
    name = schema_of(uri)
    admin.execute(
        f"""CREATE FUNCTION "{name}".fill() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$;
        CREATE TRIGGER fill BEFORE INSERT ON "{name}".products EXECUTE FUNCTION "{name}".fill()"""
    )
    with pytest.raises(StoreFullError, match="the server's disk is full: make room") as error:
        upsert(store, products(5, start=2))
    one_line(error)
    assert len(store) == 3
    assert store.changes_since(store.revision).upserted == set()


def test_an_id_that_no_index_takes_is_one_line(store):
    noise = "".join(map(chr, np.random.default_rng(1).integers(0x4E00, 0x9FFF, 5000)))
    with pytest.raises(StoreError, match="an id or value is too long for its index") as error:
        upsert(store, [Product(noise, "", None, 1, {})])
    one_line(error)


def test_a_store_that_was_dropped_meanwhile_is_named(store, admin, uri):
    admin.execute(f'DROP SCHEMA "{schema_of(uri)}" CASCADE')
    for call in (lambda: len(store), lambda: upsert(store, products(1))):
        with pytest.raises(StoreError, match="was deleted or changed meanwhile") as error:
            call()
        one_line(error)


def test_damage_is_found_and_mended(store, admin, uri):
    upsert(store, products(12))
    name = schema_of(uri)
    admin.execute(f"UPDATE \"{name}\".products SET _crc = _crc + 1 WHERE _id = 'p3'")
    admin.execute(f"UPDATE \"{name}\".products SET price = 99 WHERE _id = 'p5'")
    assert store.fetch(["p3", "p4"]).ids == ["p4"]
    report = store.verify(repair=True)
    assert (report.checked, set(report.damaged), report.removed) == (12, {"p3", "p5"}, 2)
    assert len(store) == 10
    assert store.verify().damaged == ()


def test_a_server_killed_in_the_middle_of_a_write_loses_nothing_that_was_committed():
    folder = Path(tempfile.mkdtemp(prefix="fashionclip-postgres-"))
    server = PostgresServer(folder / "data")
    try:
        uri = server.new_database("killed")
        store = create_store(uri, META)
        code = """
            import sys
            import numpy as np
            from fashionclip.product import Product, Roles
            from fashionclip.store import open_store
            vectors = np.eye(1, 16, dtype=np.float32).repeat(50, axis=0)
            with open_store(sys.argv[1]).writer() as writer:
                for n in range(10**6):
                    batch = [Product(f"b{n}-{i}", "", None, 1, {}) for i in range(50)]
                    writer.upsert(batch, vectors, [bytes(16)] * 50)
                    print(n, flush=True)
        """
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), uri],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            for line in process.stdout:
                if int(line) == 5:
                    server.kill()
            complaint = process.stderr.read().strip().splitlines()[-1]
        assert complaint.startswith("fashionclip.errors.StoreError: the ")
        with pytest.raises(StoreError) as error:
            len(store)
        one_line(error)
        server.start()
        assert len(store) >= 300
        assert len(store) % 50 == 0
        assert store.verify().damaged == ()
        upsert(store, products(1))
        store.close()
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


# words


TITLES = st.lists(
    st.sampled_from(
        ["nike", "Nikes", "shirt", "t-shirt", "skirt", "Größe", "rosé", "AB-12", "日本"]
    ),
    max_size=4,
).map(" ".join)
WRITES = st.lists(
    st.one_of(
        st.tuples(st.just("upsert"), st.dictionaries(st.sampled_from("abcdef"), TITLES)),
        st.tuples(st.just("delete"), st.sets(st.sampled_from("abcdef"))),
        st.tuples(st.just("roles"), st.sampled_from([None, "title"])),
        st.tuples(st.just("optimize"), st.none()),
    ),
    max_size=6,
)
QUERIES = ("nike", "nkie shirt", "shirts", "tshirt", "grosse", "rose", "ab12", "ab13", "日本", "a")


def write(store, kind, what):
    with store.writer() as one:
        if kind == "upsert":
            items = [Product(name, "", None, 1, {"title": what[name]}) for name in what]
            one.upsert(items, unit_vectors(len(items)), [bytes(16)] * len(items))
        elif kind == "delete":
            one.delete(what)
        elif kind == "roles":
            one.set_roles(Roles(title=what))
        else:
            one.optimize()


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(writes=WRITES)
def test_words_find_the_same_products_as_in_memory_after_any_writes(postgres_uri, admin, writes):
    name = f"words-{next(COUNTER)}"
    store = create_store(f"{postgres_uri}&store={name}", META)
    oracle = create_store(f"memory://{name}", META)
    for kind, what in [("roles", "title"), *writes]:
        for one in (store, oracle):
            write(one, kind, what)
    for text in QUERIES:
        assert sorted(by_words(store, text)) == sorted(by_words(oracle, text)), text
    counted = admin.execute(f'SELECT word, n_products FROM "{name}".words WHERE n_products <> 0')
    kept = admin.execute(
        f'SELECT lexeme, count(*) FROM "{name}".texts, unnest(_words) GROUP BY lexeme'
    )
    assert dict(counted.fetchall()) == dict(kept.fetchall())
    store.close()
    oracle.close()


def test_products_with_all_words_come_first_and_rare_words_count_more(store):
    titles = ["red dress"] * 3 + ["dress"] * 9 + ["red"] + ["a very long title of a red silk dress"]
    items = [Product(f"p{i:02d}", title, None, 1, {}) for i, title in enumerate(titles)]
    upsert(store, items)
    found = by_words(store, "red dress")
    assert set(found[:4]) == {"p00", "p01", "p02", "p13"}
    assert found[4] == "p12"
    assert len(found) == 14
    scores = [hit.score for hit in store.text_search("red dress", k=100)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 1


def test_fewer_hits_are_the_first_of_more(store):
    generator = np.random.default_rng(3)
    words = [f"word{i}" for i in range(40)]
    shares = 1 / np.arange(1, 41)
    titles = [
        " ".join(words[i] for i in generator.choice(40, size=6, p=shares / shares.sum()))
        for _ in range(400)
    ]
    upsert(store, [Product(f"p{i}", title, None, 1, {}) for i, title in enumerate(titles)])
    for start in range(0, 40, 7):
        text = " ".join(words[i % 40] for i in (start, start + 5, start + 30, 0, 1))
        every = store.text_search(text, k=400, columns=())
        for k in (1, 3, 10, 60):
            assert store.text_search(text, k=k, columns=()) == every[:k]


def test_a_query_of_very_many_words_is_answered(store):
    upsert(store, [Product(f"p{i}", f"word{i} and{i % 7}", None, 1, {}) for i in range(300)])
    text = " ".join(f"word{i} and{i % 7}" for i in range(200))
    assert len(by_words(store, text)) >= 30


# the graph


def build_graph(store):
    """Three thousand products with a graph, which otherwise takes five thousand."""
    items = products(3_000)
    with pytest.MonkeyPatch.context() as patch, store.writer() as one:
        patch.setattr(writer, "APPROXIMATE_FROM", 3_000)
        one.upsert(items, unit_vectors(3_000), [bytes(16)] * 3_000)
        assert not store.info().is_approximate
        one.optimize()
    assert store.info().is_approximate


@pytest.fixture(
    scope="module", params=["float", pytest.param("half", marks=pytest.mark.slow), "binary"]
)
def large(postgres_uri, request):
    """A store with a graph; only read it."""
    form = request.param
    made = create_store(f"{postgres_uri}&store=large-{form}", replace(META, vectors=form))
    build_graph(made)
    yield made
    made.close()


@pytest.mark.parametrize("text", [None, "price < 1500", "price < 300", "price < 9", "price = 7"])
def test_the_graph_finds_what_comparing_every_vector_finds(large, text, monkeypatch):
    monkeypatch.setattr(reading, "MAX_COMPARED", 0)
    where = None if text is None else parse_filter(text, large.meta.columns)
    n_same = 0
    for query in unit_vectors(20, seed=1):
        exact = large.nearest(query[None], k=10, where=where, exact=True)[0]
        close = large.nearest(query[None], k=10, where=where)[0]
        assert len(close) == len(exact)
        n_same += len({hit.product_id for hit in exact} & {hit.product_id for hit in close})
        assert [h.score for h in close] == sorted((h.score for h in close), reverse=True)
        assert close[0].score <= exact[0].score + 1e-6
    # sixteen signs say little; of longer vectors they say more
    wanted = 0.8 if large.meta.vectors == "binary" else 0.95
    assert n_same >= wanted * 20 * min(10, large.count(where))


def test_more_hits_than_a_scan_of_the_graph_finds_come_all_the_same(large):
    assert len(large.nearest(unit_vectors(1), k=3_500)[0]) == 3_000
    assert len(large.nearest(unit_vectors(1), k=500)[0]) == 500


def test_a_form_of_vectors_that_pgvector_lacks_is_refused(uri):
    with pytest.raises(StoreError, match=r"as int8, .*: add --vectors half") as error:
        create_store(uri, replace(META, vectors="int8"))
    one_line(error)
    assert not holds_store(uri)


def test_what_is_written_after_the_graph_is_found_and_a_wider_column_builds_it_anew(
    store, monkeypatch
):
    build_graph(store)
    upsert(store, [Product("late", "", None, 1, {"price": 5})], seed=77)
    assert found(store, unit_vectors(1, seed=77))[0] == "late"
    with store.writer() as one:
        one.delete(["late"])
    assert found(store, unit_vectors(1, seed=77))[0] != "late"
    upsert(store, [Product("odd", "", None, 1, {"price": "on request"})])
    assert not store.info().is_approximate
    assert len(found(store, unit_vectors(1))) == 10
    monkeypatch.setattr(writer, "APPROXIMATE_FROM", 3_000)
    with store.writer() as one:
        one.optimize()
    assert store.info().is_approximate


def test_scores_and_vectors_are_those_that_are_kept_and_not_those_of_the_graph(large):
    kept = as_kept(unit_vectors(3_000), large.meta.vectors)
    hits = large.nearest(kept[:5], k=1)
    for vector, (hit,) in zip(kept[:5], hits, strict=True):
        assert hit.score == pytest.approx(min(1, np.linalg.norm(vector)), abs=1e-6)
        stored = large.fetch([hit.product_id]).vectors
        np.testing.assert_array_equal(stored[0], vector)


def test_vectors_of_another_length_are_refused(store):
    with pytest.raises(ModelMismatchError), store.writer() as one:
        one.upsert(products(1), np.eye(1, 8, dtype=np.float32), [bytes(16)])


def test_who_writes_is_said_to_those_who_wait(store):
    waits = []
    with store.writer() as _:
        errors = []

        def wait():
            try:
                with store.writer(timeout_s=0.2, on_wait=waits.append):
                    pass
            except StoreLockedError as exc:
                errors.append(exc)

        thread = threading.Thread(target=wait)
        thread.start()
        thread.join()
    assert f"process {os.getpid()} (user postgres, connected since " in waits[0]
    assert f"process {os.getpid()}" in str(errors[0])


def test_changes_are_forgotten_after_a_day(store, admin, uri):
    upsert(store, products(3))
    old = store.revision
    admin.execute(f"UPDATE \"{schema_of(uri)}\".changes SET written = now() - interval '2 days'")
    upsert(store, products(1, start=9))
    with store.writer() as one:
        one.optimize()
    assert store.changes_since(0) is None
    assert store.changes_since(old).upserted == {"p9"}


def test_a_fork_opens_connections_of_its_own(store, uri):
    upsert(store, products(4))
    code = """
        import os, sys
        from fashionclip.store import open_store
        store = open_store(sys.argv[1])
        assert len(store) == 4
        child = os.fork()
        if child == 0:
            os._exit(0 if len(store) == 4 else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert len(store) == 4
    """  # in a process without Lance, which warns of forks
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), uri], check=True)
