"""SQL in answers: statements, dialects, tables and columns; what a parser cannot take."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmdeploy.errors import MissingExtraError
from pytest_llmdeploy.gates.assertions import NotEvaluable
from tests.unit.gates.judging import REGISTRY, holds_and_fails, judged, not_evaluable, refused

pytest.importorskip("sqlglot")


def of_tables(*names: str) -> dict[str, Any]:
    return {"is-sql": {"allowedTables": list(names)}}


def of_columns(*names: str) -> dict[str, Any]:
    return {"is-sql": {"allowedColumns": list(names)}}


@pytest.mark.parametrize(
    ("raw", "good", "bad", "reason"),
    [
        (
            "is-sql",
            "SELECT a FROM t WHERE b = 1;",
            "hello world",
            'expected the answer to be SQL, it is no SQL statement; got "hello world"',
        ),
        (
            "is-sql",
            "DELETE FROM t",
            "SELECT FROM WHERE x =",
            "expected the answer to be SQL, it is no SQL, see line 1, column 17 of it; got"
            ' "SELECT FROM WHERE x ="',
        ),
        (
            {"contains-sql": {"databaseType": "PostgreSQL"}},
            "So:\n```sql\nSELECT a::int FROM t\n```",
            "So:\n```\nno\n```",
            "expected the answer to contain SQL of postgres, it is no SQL statement; got"
            ' "So:\\n```\\nno\\n```"',
        ),
        (
            of_tables("orders"),
            "WITH a AS (SELECT * FROM orders), b AS (SELECT * FROM a) SELECT * FROM b",
            "SELECT 1; DROP TABLE users",
            'expected the answer to be SQL on the tables "orders", it uses the table'
            ' "drop::null::users"; got "SELECT 1; DROP TABLE users"',
        ),
        (
            of_tables("(select|update)::(null|shop)::orders"),
            "UPDATE shop.orders SET a = 1",
            "DELETE FROM orders",
            'expected the answer to be SQL on the tables "(select|update)::(null|shop)::orders",'
            ' it uses the table "delete::null::orders"; got "DELETE FROM orders"',
        ),
        (
            of_columns("orders.id", "n"),
            "SELECT o.id, n, COUNT(*) FROM orders o",
            "SELECT * FROM orders",
            'expected the answer to be SQL on the columns "orders.id", "n", it uses the column'
            ' "select::null::(.*)"; got "SELECT * FROM orders"',
        ),
    ],
)
def test_both_ways(raw: Any, good: str, bad: str, reason: str) -> None:
    holds_and_fails(raw, good, bad, reason)


@pytest.mark.parametrize(
    "sql",
    [
        "WITH users AS (SELECT * FROM users) SELECT * FROM orders, users",
        "SELECT * FROM (WITH users AS (SELECT 1) SELECT * FROM users) x, users",
        "SELECT * FROM orders WHERE id IN (SELECT id FROM users)",
        "INSERT INTO orders SELECT * FROM users",
        "SELECT * FROM orders UNION SELECT * FROM users",
        "CREATE TABLE users AS SELECT 1",
        "MERGE INTO orders USING users ON a = b WHEN MATCHED THEN DELETE",
    ],
)
def test_no_way_around_the_allowed_tables(sql: str) -> None:
    found = judged(of_tables("orders"), sql)
    assert not found.passed
    assert "it uses the table" in found.reason


def test_columns_that_are_written_are_columns() -> None:
    assert not judged(of_columns("id"), "INSERT INTO t (id, secret) VALUES (1, 2)").passed
    assert not judged(of_columns("id"), "UPDATE t SET secret = 1").passed


def test_what_cannot_work() -> None:
    assert refused({"is-sql": {"databaseType": "postgress"}}) == (
        "is-sql: there is no databaseType 'postgress', did you mean 'postgres'?"
    )
    assert refused({"is-sql": {"allowedTable": ["a"]}}) == (
        "is-sql: the value has an unknown key 'allowedTable', did you mean 'allowedTables'?"
    )
    assert refused({"is-sql": {"allowedTables": []}}) == (
        "is-sql: allowedTables must be a list of names, got a list"
    )
    assert refused(of_tables("a::(")) == 'is-sql: the pattern "a::(" is wrong: missing )'


@pytest.mark.timeout(5)
def test_what_is_too_much_is_not_judged() -> None:
    assert not_evaluable("not-is-sql", "SELECT " + "(" * 4000 + "1") == (
        "the SQL is nested too deeply to be parsed"
    )
    assert not_evaluable("contains-sql", "x" * 20_001) == (
        "the answer has 20001 characters, at most 20000 are parsed"
    )


def test_without_the_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sqlglot", None)
    with pytest.raises(MissingExtraError) as caught:
        REGISTRY.parse("is-sql", "c:1")
    assert str(caught.value) == (
        "SQL in answers needs the package 'sqlglot', which is not installed:"
        " pip install 'pytest-llmdeploy[sql]'"
    )


WORDS = st.sampled_from(
    ["SELECT", "FROM", "WITH", "AS", "(", ")", ",", "a", "b", "*", ".", "'", '"', "1",
     "INSERT INTO", "VALUES", "JOIN", "ON", "=", "```sql\n", "```",
     ";", "--", "/*", "{{", "\x00", "\ud800"]
)  # fmt: skip


@given(
    st.sampled_from(["is-sql", "contains-sql"]),
    st.lists(WORDS, max_size=12).map(" ".join) | st.text(max_size=40),
)
def test_any_text_is_judged_or_not_evaluable(kind: str, text: str) -> None:
    raw = {kind: {"allowedTables": ["a"], "allowedColumns": ["b"]}}
    try:
        assert judged(raw, text).passed is not judged({f"not-{kind}": raw[kind]}, text).passed
    except NotEvaluable:
        return
