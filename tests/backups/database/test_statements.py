"""pg_dump's scripts are cut into statements exactly where the server would end one."""

from __future__ import annotations

import pytest

from backups.database.statements import Kind, classified, statements, without_token


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT ';'",
        "SELECT ';--' AS \"a;b\"",
        r"SELECT E'\';'",
        "SELECT 'it''s; fine'",
        "SELECT $$;$$, $tag$ ; $$ ; $tag$",
        "SELECT $täg$ ; $täg$",
        "SELECT /* ; /* ; */ ; */ 1",
        "SELECT 1 -- ;\n, 2",
        "CREATE RULE r AS ON INSERT TO t DO ALSO (DELETE FROM a; DELETE FROM b)",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; SELECT 2; END",
        (
            "CREATE OR REPLACE PROCEDURE p() LANGUAGE sql\nBEGIN ATOMIC\n"
            " SELECT CASE WHEN a THEN 1 END;\n"
            " INSERT INTO t VALUES (CASE b WHEN 1 THEN CASE WHEN c THEN 2 END END);\nEND"
        ),
        "CREATE FUNCTION f(a$1 int) RETURNS int LANGUAGE sql RETURN a$1 + 1",
        'CREATE TABLE "begin atomic" (a int)',
    ],
)
def test_a_statement_ends_at_its_own_semicolon(statement: str) -> None:
    script = f"-- first; a comment\nSET a = 1;\n\n/* and; */ {statement};\nSELECT 3;\n"
    assert list(statements(script)) == ["SET a = 1", statement, "SELECT 3"]


@pytest.mark.parametrize(
    ("text", "kind", "table"),
    [
        ("CREATE INDEX i ON public.t USING btree (a)", Kind.INDEX, "public.t"),
        (
            'CREATE UNIQUE INDEX "i x" ON ONLY "S p"."T ""q" USING btree (a)',
            Kind.INDEX,
            '"S p"."T ""q"',
        ),
        (
            "ALTER TABLE ONLY public.t\n    ADD CONSTRAINT p PRIMARY KEY (a)",
            Kind.INDEX,
            "public.t",
        ),
        (
            "ALTER TABLE ONLY a.t\n    ADD CONSTRAINT e EXCLUDE USING gist (a WITH &&)",
            Kind.INDEX,
            "a.t",
        ),
        (
            "ALTER TABLE a.t\n    ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES b(a)",
            Kind.FOREIGN_KEY,
            "a.t",
        ),
        ("ALTER INDEX a.p ATTACH PARTITION a.c", Kind.ATTACH, ""),
        ("ALTER TABLE a.t CLUSTER ON p", Kind.OTHER, ""),
        ("ALTER TABLE a.t ADD CONSTRAINT c CHECK ((a > 0)) NOT VALID", Kind.OTHER, ""),
        ("REFRESH MATERIALIZED VIEW a.m", Kind.LAST, ""),
        ("GRANT SELECT ON TABLE a.t TO r", Kind.GRANT, ""),
        ("ALTER DEFAULT PRIVILEGES FOR ROLE r GRANT SELECT ON TABLES TO s", Kind.GRANT, ""),
        ("COMMENT ON CONSTRAINT f ON a.t IS 'x'", Kind.KEY_COMMENT, ""),
        ("SET default_tablespace = ''", Kind.SETTING, ""),
    ],
)
def test_a_statement_is_known_by_what_it_does(text: str, kind: Kind, table: str) -> None:
    found = classified(text)
    assert (found.kind, found.table) == (kind, table)


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_the_random_token_of_a_script_is_left_out(size: int) -> None:
    body = "SELECT '\n\\unrestrict other\n';\n" * 500
    script = f"--\n-- dump\n--\n\n\\restrict a1B2\n\n{body}\n\\unrestrict a1B2\n\n".encode()
    pieces = (script[at : at + size] for at in range(0, len(script), size))
    assert b"".join(without_token(pieces)) == f"--\n-- dump\n--\n\n\n{body}\n\n".encode()


def test_a_script_without_a_token_stays_as_it_is() -> None:
    script = b"SELECT '\n\\restrict abc\n';\n" * 300
    assert b"".join(without_token(iter([script[:5000], script[5000:]]))) == script
