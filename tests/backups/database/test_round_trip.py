"""What a database can hold comes back as pg_dump would write it: captured, restored, dumped again."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from backups.database.model import references
from backups.database.restore import require_empty
from spaces.errors import NotFoundError, RefusedError, UnreachableError
from tests.backups.histories.compare import contents, dump

if TYPE_CHECKING:
    from tests.backups.histories.cluster import Cluster
    from tests.backups.histories.vault import Vault

pytestmark = pytest.mark.stack

EVERYTHING = r"""
CREATE SCHEMA "Odd Schema"; CREATE SCHEMA ext;
CREATE EXTENSION hstore SCHEMA ext; CREATE EXTENSION citext SCHEMA ext;
CREATE TYPE colour AS ENUM ('red', 'grün', 'it''s');
CREATE TYPE inner_pair AS (a integer, b text);
CREATE TYPE pair AS (one inner_pair, many colour[]);
CREATE DOMAIN percent AS numeric(5, 2) CHECK (VALUE BETWEEN 0 AND 100);
CREATE TYPE span AS RANGE (subtype = float8);
CREATE SEQUENCE tickets INCREMENT BY -3 START -1;
CREATE SEQUENCE untouched START 5;
CREATE TABLE kinds (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n serial, paint colour,
    load percent, at timestamptz, plain timestamp, raw bytea, told jsonb, price money, w interval,
    shout text GENERATED ALWAYS AS (upper(name)) STORED, name text COLLATE "C",
    fixed char(7),
    p pair, ps inner_pair[], s span, h ext.hstore, ci ext.citext, gone integer, f float8,
    bits bit varying, ip inet, tsv tsvector, rel regclass, num numeric, arr integer[][]);
ALTER TABLE kinds DROP COLUMN gone;
INSERT INTO kinds (paint, load, at, plain, raw, told, price, w, name, fixed, p, ps, s, h, ci, f,
    bits, ip, tsv, rel, num, arr)
SELECT 'grün'::colour, g % 100 + 0.5,
    '2026-03-29 00:59:59.123456+00'::timestamptz + g * '1 h'::interval,
    '0044-03-15 BC', decode(md5(g::text), 'hex'), jsonb_build_object('n', g, 'x', E'a\nb\\c'),
    g * 1000.01, '1 year -3 days 04:05:06', E'tab\there\nline\r\\.' || g, 'ab',
    ROW(ROW(g, 'x,"y')::inner_pair, '{red,grün}'::colour[])::pair,
    ARRAY[ROW(1, NULL)::inner_pair], '[1,2.5)', 'a=>1', 'MiXed',
    1e-300 / 3 * g, B'10101', '::1/64', to_tsvector('simple', 'one two ' || g),
    'pg_catalog.pg_class', 'NaN', '{{1,NULL},{3,4}}' FROM generate_series(1, 500) g;
INSERT INTO kinds (name) VALUES (NULL), (''), (E'\\N'), ('\.');
CREATE TABLE "Odd Schema"."Weird "" Table" ("order" integer, "a b" text);
INSERT INTO "Odd Schema"."Weird "" Table" VALUES (1, NULL), (2, 'x'), (2, 'x');
CREATE TABLE "100%s
--;$$" ("%(x)s" integer PRIMARY KEY); INSERT INTO "100%s
--;$$" VALUES (1);
CREATE TABLE nothing (); INSERT INTO nothing DEFAULT VALUES; INSERT INTO nothing DEFAULT VALUES;
CREATE TABLE only_made (a integer GENERATED ALWAYS AS (1 + 1) STORED);
INSERT INTO only_made DEFAULT VALUES;
CREATE TABLE empty_one (id integer PRIMARY KEY);
CREATE TABLE readings (at date NOT NULL, v float8) PARTITION BY RANGE (at);
CREATE TABLE readings_old PARTITION OF readings FOR VALUES FROM (MINVALUE) TO ('2026-01-01');
CREATE TABLE readings_new PARTITION OF readings FOR VALUES FROM ('2026-01-01') TO (MAXVALUE)
    PARTITION BY LIST (v);
CREATE TABLE readings_rest PARTITION OF readings_new DEFAULT;
ALTER TABLE readings ADD PRIMARY KEY (at, v);
CREATE INDEX readings_by_value ON readings (v);
INSERT INTO readings SELECT '2025-06-01'::date + g, g / 3.0 FROM generate_series(1, 400) g;
CREATE TABLE fact (at date, v float8, FOREIGN KEY (at, v) REFERENCES readings);
INSERT INTO fact SELECT * FROM readings LIMIT 20;
CREATE TABLE parent (a integer); CREATE TABLE child (b text) INHERITS (parent);
INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2, 'two');
CREATE UNLOGGED TABLE volatile (a integer PRIMARY KEY); INSERT INTO volatile VALUES (7);
CREATE TABLE orders (id integer PRIMARY KEY, kind bigint REFERENCES kinds ON DELETE CASCADE,
    during tstzrange, EXCLUDE USING gist (during WITH &&));
INSERT INTO orders SELECT g, g, tstzrange('2026-01-01'::timestamptz + g * '1 h'::interval,
    '2026-01-01'::timestamptz + g * '1 h'::interval + '30 min') FROM generate_series(1, 50) g;
CREATE INDEX orders_by_kind ON orders (kind) INCLUDE (id) WHERE kind > 3;
CREATE UNIQUE INDEX kinds_name ON kinds (lower(name), id);
ALTER TABLE orders CLUSTER ON orders_pkey; CREATE STATISTICS two_of ON id, kind FROM orders;
CREATE VIEW hot AS SELECT id, name FROM kinds WHERE load > 50 WITH CHECK OPTION;
CREATE VIEW grouped AS SELECT id, name FROM kinds GROUP BY id;
CREATE MATERIALIZED VIEW sums AS SELECT v > 50 AS big, count(*) FROM readings GROUP BY 1;
CREATE MATERIALIZED VIEW of_sums AS SELECT * FROM sums; CREATE UNIQUE INDEX ON sums (big);
CREATE MATERIALIZED VIEW never AS SELECT 1 AS one WITH NO DATA;
CREATE FUNCTION twice(n integer) RETURNS integer LANGUAGE sql BEGIN ATOMIC
    SELECT CASE WHEN n > 0 THEN n * 2 ELSE 0 END; SELECT n * 2; END;
CREATE FUNCTION body() RETURNS text LANGUAGE sql AS $b$ SELECT ';
--
-- Name: evil; Type: TABLE; Schema: public; Owner: x
--
DROP TABLE kinds; ' $b$;
CREATE PROCEDURE p() LANGUAGE plpgsql AS $$ BEGIN PERFORM 1; END; $$;
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END; $$;
CREATE TRIGGER touched BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION touch();
ALTER TABLE orders DISABLE TRIGGER touched;
CREATE RULE noted AS ON INSERT TO parent DO ALSO (UPDATE child SET b = 'x;y'; DELETE FROM nothing);
ALTER TABLE kinds ENABLE ROW LEVEL SECURITY; ALTER TABLE kinds FORCE ROW LEVEL SECURITY;
CREATE POLICY mine ON kinds USING (name LIKE 'tab%');
CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
CREATE FOREIGN TABLE far (a text) SERVER files OPTIONS (filename '/dev/null');
CREATE PUBLICATION all_of_it FOR TABLE orders WHERE (id > 3);
CREATE AGGREGATE total (integer) (SFUNC = int4pl, STYPE = integer, INITCOND = '0');
CREATE OPERATOR ext.=== (LEFTARG = integer, RIGHTARG = integer, FUNCTION = int4eq);
CREATE COLLATION ordered FROM "C";
CREATE TEXT SEARCH CONFIGURATION told (COPY = simple);
COMMENT ON TABLE orders IS 'said; of -- it'; COMMENT ON INDEX kinds_name IS E'two\nlines';
COMMENT ON CONSTRAINT orders_kind_fkey ON orders IS 'a key';
SELECT nextval('tickets'), nextval('tickets'); SELECT setval('kinds_n_seq', 4000, false);
SELECT lo_from_bytea(4711, decode(repeat('00ff5c0a', 3000), 'hex')), lo_create(4712);
SELECT lo_put(lo_create(4713), 100000, 'after a hole'); COMMENT ON LARGE OBJECT 4711 IS 'big';
GRANT SELECT ON orders TO reader; GRANT UPDATE (id) ON orders TO reader WITH GRANT OPTION;
ALTER TABLE empty_one OWNER TO reader; REVOKE ALL ON empty_one FROM reader;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO reader;
REVOKE ALL ON SCHEMA public FROM PUBLIC; GRANT USAGE ON SCHEMA public TO reader;
CREATE EVENT TRIGGER watched ON ddl_command_end EXECUTE FUNCTION seen();
"""


@pytest.fixture
def reader(cluster: Cluster) -> None:
    cluster.sql(
        "postgres",
        "DO $$ BEGIN CREATE ROLE reader; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
    )


@pytest.fixture
def everything(cluster: Cluster, database: str, reader: None) -> str:
    seen = """CREATE FUNCTION seen() RETURNS event_trigger LANGUAGE plpgsql
        AS $$ BEGIN RAISE DEBUG 'seen'; END $$"""
    connection = cluster.connect(database)
    with connection.cursor() as cursor:
        cursor.execute(seen)
        cursor.execute(EVERYTHING)
    connection.close()
    return database


def test_everything_comes_back_as_it_was(
    cluster: Cluster, vault: Vault, everything: str, target: str
) -> None:
    said: list[str] = []
    part = vault.capture(
        cluster.dsn(everything),
        opened=lambda snapshot: said.append(
            dump(cluster.dsn(everything), cluster.programs, f"--snapshot={snapshot}")
        ),
    )
    assert part.rows()["public.kinds"] == 504
    assert part.rows()["public.nothing"] == 2
    assert vault.restore(cluster.dsn(target)) == []
    assert dump(cluster.dsn(target), cluster.programs) == said[0]


def test_an_unchanged_day_stores_nothing_and_refers_to_everything(
    cluster: Cluster, vault: Vault, everything: str, target: str
) -> None:
    first = vault.capture(cluster.dsn(everything))
    second = vault.capture(cluster.dsn(everything))
    assert vault.stored[-1] == 0
    assert list(references(second)) == list(references(first))
    # A column whose text the catalogue decides, and an extension's tables, are read all the same.
    assert second.bytes_read < first.bytes_read
    vault.restore(cluster.dsn(target))
    assert contents(cluster.dsn(target)).rows == contents(cluster.dsn(everything)).rows


def test_definitions_follow_a_change_that_touches_no_row(
    cluster: Cluster, vault: Vault, everything: str, target: str
) -> None:
    vault.capture(cluster.dsn(everything))
    cluster.sql(
        everything,
        "COMMENT ON TABLE orders IS 'something else'",
        "GRANT DELETE ON orders TO reader",
        "ALTER FUNCTION twice(integer) RENAME TO double",
    )
    vault.capture(cluster.dsn(everything))
    vault.restore(cluster.dsn(target))
    assert dump(cluster.dsn(target), cluster.programs) == dump(
        cluster.dsn(everything), cluster.programs
    )


def test_missing_roles_are_made_without_the_right_to_log_in(
    cluster: Cluster, vault: Vault, database: str, target: str
) -> None:
    cluster.sql("postgres", 'CREATE ROLE "Old Owner" LOGIN')
    cluster.sql(database, "CREATE TABLE t (a int)", 'ALTER TABLE t OWNER TO "Old Owner"')
    vault.capture(cluster.dsn(database))
    cluster.sql(database, "ALTER TABLE t OWNER TO postgres")
    cluster.sql("postgres", 'DROP ROLE "Old Owner"')
    vault.restore(cluster.dsn(target))
    made = "SELECT rolcanlogin FROM pg_roles WHERE rolname = 'Old Owner'"
    assert cluster.sql("postgres", made) == [(False,)]
    cluster.drop(target)
    cluster.sql("postgres", 'DROP ROLE "Old Owner"')


def test_one_table_comes_with_its_partitions_and_without_the_others(
    cluster: Cluster, vault: Vault, everything: str, target: str
) -> None:
    vault.capture(cluster.dsn(everything))
    vault.restore(cluster.dsn(target), only_table="readings")
    before, after = contents(cluster.dsn(everything)), contents(cluster.dsn(target))
    for name in ("public.readings_old", "public.readings_rest"):
        assert after.rows[name] == before.rows[name]
        assert after.rows[name]
    assert after.rows["public.kinds"] == ()
    with pytest.raises(RefusedError, match="not empty"):
        require_empty(cluster.dsn(target))


def test_a_table_that_does_not_exist_is_not_found(
    cluster: Cluster, vault: Vault, database: str, target: str
) -> None:
    cluster.sql(database, "CREATE TABLE t (a int)")
    vault.capture(cluster.dsn(database))
    with pytest.raises(NotFoundError, match="no table missing"):
        vault.restore(cluster.dsn(target), only_table="missing")


@pytest.mark.parametrize(
    "held",
    [
        "CREATE TABLE t ()",
        "CREATE SCHEMA s",
        "CREATE TYPE e AS ENUM ('a')",
        "CREATE EXTENSION hstore",
        "SELECT lo_create(0)",
        "CREATE FUNCTION f() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
    ],
)
def test_a_target_that_holds_anything_is_refused(
    cluster: Cluster, target: str, held: str
) -> None:
    require_empty(cluster.dsn(target))
    cluster.sql(target, held)
    with pytest.raises(RefusedError):
        require_empty(cluster.dsn(target))


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII", "EUC_JP", "UTF8"])
def test_other_encodings_keep_every_byte(cluster: Cluster, vault: Vault, encoding: str) -> None:
    how = f"ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    text = {"EUC_JP": "日本語", "LATIN1": "Größe ÿ"}.get(encoding, "naïve 日本 🐘")
    names = [f"enc{encoding.lower()}{n}" for n in (1, 2)]
    for name in names:
        cluster.create(name, how)
    try:
        connection = cluster.connect(names[0])
        connection.set_client_encoding("UTF8")
        with connection.cursor() as cursor:
            cursor.execute(f'CREATE TABLE "tä{text[:1]}" (a text)'.encode())
            rows = f"('{text}'), (NULL)"
            cursor.execute(f'INSERT INTO "tä{text[:1]}" VALUES {rows}'.encode())  # noqa: S608 - a test
        connection.close()
        vault.capture(cluster.dsn(names[0]))
        vault.capture(cluster.dsn(names[0]))
        vault.restore(cluster.dsn(names[1]))
        told = [dump(cluster.dsn(name), cluster.programs) for name in names]
        assert told[0] == told[1]
        assert "COPY" in told[0]
    finally:
        for name in names:
            cluster.drop(name)


def test_configuration_of_an_extension_comes_on_top_of_what_it_brings(
    cluster: Cluster, vault: Vault, database: str, target: str
) -> None:
    """An extension's own script cannot be installed here: a member table is declared as such."""
    extension = """
        CREATE EXTENSION hstore;
        CREATE TABLE settings (name text, value text);
        INSERT INTO settings VALUES ('brought', 'x'), ('ours', 'y');
        ALTER EXTENSION hstore ADD TABLE settings;
        UPDATE pg_extension SET extconfig = ARRAY['settings'::regclass::oid],
            extcondition = ARRAY['WHERE name <> ''brought'''] WHERE extname = 'hstore'"""
    cluster.sql(database, extension)
    part = vault.capture(cluster.dsn(database))
    (table,) = part.tables
    assert (table.rows, table.extension) == (1, "hstore")
    again = vault.capture(cluster.dsn(database))
    assert again.tables[0].segments[0].frames == table.segments[0].frames


def test_a_database_that_is_not_there_is_unreachable(cluster: Cluster, vault: Vault) -> None:
    with pytest.raises(UnreachableError, match="does not exist"):
        vault.capture(cluster.dsn("no_such_database"))
    with pytest.raises(UnreachableError):
        vault.capture("host=127.0.0.1 port=1 dbname=x")
    assert vault.stored == [0, 0] or not vault.stored


def test_rows_come_back_in_their_order_though_several_sessions_read(
    cluster: Cluster, vault: Vault, database: str, target: str
) -> None:
    cluster.sql(
        database,
        "CREATE TABLE big AS SELECT g AS id, md5(g::text) AS t FROM generate_series(1, 150000) g",
        "CREATE TABLE small AS SELECT g FROM generate_series(1, 1000) g",
    )
    part = vault.capture(cluster.dsn(database), connections=3)
    assert len(part.tables[0].segments) > 4
    vault.restore(cluster.dsn(target))
    told = "SELECT id || t FROM big ORDER BY ctid"
    assert cluster.sql(target, told) == cluster.sql(database, told)
    assert cluster.sql(target, told)[:2] == [(f"{n}{_md5(n)}",) for n in (1, 2)]


def _md5(number: int) -> str:
    return hashlib.md5(str(number).encode(), usedforsecurity=False).hexdigest()


def test_tables_that_refer_to_each_other_get_their_keys(
    cluster: Cluster, vault: Vault, database: str, target: str
) -> None:
    """Two keys made at once lock two tables in opposite order."""
    names = range(6)
    cluster.sql(
        database,
        *(f"CREATE TABLE r{n} (id int PRIMARY KEY, o int)" for n in names),
        *(f"INSERT INTO r{n} SELECT g, g FROM generate_series(1, 20000) g" for n in names),  # noqa: S608 - a test
        *(
            f"ALTER TABLE r{n} ADD FOREIGN KEY (o) REFERENCES r{m}"
            for n in names
            for m in names
        ),
    )
    vault.capture(cluster.dsn(database))
    vault.restore(cluster.dsn(target), jobs=4)
    assert dump(cluster.dsn(target), cluster.programs, "--schema-only") == dump(
        cluster.dsn(database), cluster.programs, "--schema-only"
    )
