"""Assertions on SQL: the answer, or a part of it, is a statement, of allowed tables and columns."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_llmdeploy.config.sentences import shown, suggestion, unknown_key
from pytest_llmdeploy.errors import MissingExtraError
from pytest_llmdeploy.gates.assertions.pattern import search
from pytest_llmdeploy.gates.assertions.spec import (
    AssertionContext,
    AssertionType,
    BadValue,
    Check,
    Finding,
    NotEvaluable,
    without_threshold,
)
from pytest_llmdeploy.gates.wording import listed, quote
from pytest_llmdeploy.untrusted import one_line

LONGEST = 20_000
"""Characters of SQL that are parsed."""
MOST_BLOCKS = 20
"""Code blocks of an answer that are tried."""
_BLOCK = re.compile(r"```[ \t]{0,9}(?:sql)?[ \t]{0,9}\n((?:(?!```)[\s\S])*)```", re.IGNORECASE)
_DIALECTS = {"postgresql": "postgres", "transactsql": "tsql", "mariadb": "mysql"}
"""Names of promptfoo that sqlglot has another one for."""
_FIELDS = ("databaseType", "allowedTables", "allowedColumns")


@dataclass(frozen=True, slots=True)
class _Rules:
    dialect: str | None = None
    tables: Sequence[str] | None = None
    columns: Sequence[str] | None = None


def _sql(parts_of: Callable[[str], Sequence[str]], expectation: str) -> AssertionType:
    def prepare(value: Any) -> Check:
        rules = _rules(value)

        def judge(context: AssertionContext) -> Finding:
            output = context.answer.text
            problem = "there is no SQL"
            for part in parts_of(output):
                found = _problem(part, rules)
                if found is None:
                    return Finding(holds=True, came=f"got {quote(output)}")
                problem = found
            return Finding(holds=False, came=f"{problem}; got {quote(output)}")

        return Check(expectation + _words(rules), judge)

    return without_threshold(prepare)


def _words(rules: _Rules) -> str:
    parts = [
        f" of {rules.dialect}" if rules.dialect else "",
        f" on the tables {listed(rules.tables)}" if rules.tables is not None else "",
        f" on the columns {listed(rules.columns)}" if rules.columns is not None else "",
    ]
    return "".join(parts)


def _rules(value: Any) -> _Rules:
    """Return what the user wrote; raise BadValue."""
    dialects = set(_sqlglot().Dialect.classes) - {""}
    if value is None:
        return _Rules()
    if not isinstance(value, Mapping):
        raise BadValue(f"the value must be a mapping of {', '.join(_FIELDS)}, got {shown(value)}")
    unknown = [str(key) for key in value if key not in _FIELDS]
    if unknown:
        raise BadValue(f"the value has an {unknown_key(unknown[0], _FIELDS)}")
    name = value.get("databaseType")
    dialect = None
    if name is not None:
        dialect = name.lower() if isinstance(name, str) else ""
        dialect = _DIALECTS.get(dialect, dialect)
        if dialect not in dialects:
            hint = suggestion(dialect, dialects) or f", expected one of: {listed(sorted(dialects))}"
            raise BadValue(f"there is no databaseType {shown(name)}{hint}")
    return _Rules(dialect, _allowed(value, "allowedTables"), _allowed(value, "allowedColumns"))


def _allowed(value: Mapping[Any, Any], key: str) -> list[str] | None:
    names = value.get(key)
    if names is None:
        return None
    if (
        not isinstance(names, list | tuple)
        or not names
        or not all(isinstance(name, str) and name for name in names)
    ):
        raise BadValue(f"{key} must be a list of names, got {shown(names)}")
    for name in names:
        if "::" in name:
            search("is-sql", name, "")
    return list(names)


def _whole(text: str) -> list[str]:
    return [text]


def _blocks(text: str) -> list[str]:
    """Return the code blocks without a language or of SQL; the whole text where there is none."""
    if len(text) > LONGEST:
        raise NotEvaluable(f"the answer has {len(text)} characters, at most {LONGEST} are parsed")
    blocks = [match[1] for match, _ in zip(_BLOCK.finditer(text), range(MOST_BLOCKS), strict=False)]
    return blocks or [text]


def _problem(text: str, rules: _Rules) -> str | None:
    """Return why a text is no SQL within the rules; None where it is. Raises NotEvaluable."""
    if len(text) > LONGEST:
        raise NotEvaluable(f"the SQL has {len(text)} characters, at most {LONGEST} are parsed")
    sqlglot = _sqlglot()
    try:
        statements = [one for one in sqlglot.parse(text, read=rules.dialect) if one is not None]
    except sqlglot.errors.SqlglotError as error:
        places = getattr(error, "errors", None) or [{}]
        line, column = places[0].get("line"), places[0].get("col")
        return "it is no SQL" + (f", see line {line}, column {column} of it" if line else "")
    except RecursionError as error:
        raise NotEvaluable("the SQL is nested too deeply to be parsed") from error
    except Exception as error:  # the parser was not made for arbitrary texts
        raise NotEvaluable(
            f"the SQL cannot be parsed: {type(error).__name__}: {one_line(str(error))[:200]}"
        ) from error
    if not statements or not all(map(_is_statement, statements)):
        return "it is no SQL statement"
    for statement in statements:
        tables = _tables(statement)
        if wrong := _outside(tables, rules.tables):
            return f"it uses the table {quote(wrong)}"
        if wrong := _outside(_columns(statement), rules.columns):
            return f"it uses the column {quote(wrong)}"
    return None


def _is_statement(node: Any) -> bool:
    """Say whether it is a statement in full: the parser takes any two words for an expression."""
    from sqlglot import exp

    if isinstance(node, exp.Select):
        return bool(node.expressions)
    if isinstance(node, exp.Delete):
        return bool(node.this)
    kinds = (exp.Query, exp.DML, exp.Create, exp.Drop, exp.Alter, exp.TruncateTable)
    return isinstance(node, kinds)


Names = tuple[str, str, str]
"""Kind of statement, what it is in (database or table; "null" where that is not told), name."""


def _tables(statement: Any) -> Iterator[Names]:
    """Yield the tables; the names that WITH gives are none."""
    from sqlglot import exp

    target = statement.this if isinstance(statement, exp.DML) else None
    target = target.this if isinstance(target, exp.Schema) else target
    for table in statement.find_all(exp.Table):
        if not table.db and _is_of_with(table):
            continue
        kind = statement.key if table is target or not isinstance(statement, exp.DML) else "select"
        yield kind, table.db or "null", table.name


def _is_of_with(table: Any) -> bool:
    """Say whether a name is one that WITH gives, where the table stands.

    Within WITH only earlier names are known: ``WITH a AS (SELECT * FROM a)`` reads a table.
    """
    from sqlglot import exp

    name, node = table.name.lower(), table
    while (parent := node.parent) is not None:
        if isinstance(parent, exp.With):
            known = parent.expressions
            if not parent.args.get("recursive"):
                known = known[: next(at for at, one in enumerate(known) if one is node)]
        else:
            above = next((one for one in parent.args.values() if isinstance(one, exp.With)), None)
            known = above.expressions if above is not None and above is not node else []
        if any(one.alias_or_name.lower() == name for one in known):
            return True
        node = parent
    return False


def _columns(statement: Any) -> Iterator[Names]:
    """Yield the columns, ``*`` as ``(.*)``; an alias of a table stands for the table."""
    from sqlglot import exp

    tables = {one.alias.lower(): one.name for one in statement.find_all(exp.Table) if one.alias}
    for column in statement.find_all(exp.Column):
        table = tables.get(column.table.lower(), column.table)
        name = "(.*)" if isinstance(column.this, exp.Star) else column.name
        yield statement.key, table or "null", name
    for star in statement.find_all(exp.Star):
        if not isinstance(star.parent, exp.Column | exp.Count):
            yield statement.key, "null", "(.*)"
    if isinstance(statement, exp.Insert) and isinstance(statement.this, exp.Schema):
        for one in statement.this.expressions:
            yield statement.key, statement.this.this.name, one.name


def _outside(names: Iterator[Names], allowed: Sequence[str] | None) -> str | None:
    """Return the first that is not allowed, as ``kind::in::name``; None where all are."""
    if allowed is None:
        return None
    for kind, within, name in names:
        full = f"{kind}::{within}::{name}"
        if not any(_fits(one, full, within, name) for one in allowed):
            return full
    return None


def _fits(allowed: str, full: str, within: str, name: str) -> bool:
    if "::" not in allowed:
        return allowed.lower() in (name.lower(), f"{within}.{name}".lower())
    if allowed.lower() == full.lower():
        return True
    try:
        return search("is-sql", f"\\A(?:{allowed})\\Z", full, "i")
    except BadValue as error:
        raise NotEvaluable(f"is-sql: {error}") from error


def _sqlglot() -> Any:
    try:
        import sqlglot
    except ImportError as error:
        raise MissingExtraError("SQL in answers", "sql", "sqlglot") from error
    # What it does not know it tells in the log, for each answer.
    logging.getLogger("sqlglot").setLevel(logging.ERROR)
    return sqlglot


TYPES: Mapping[str, AssertionType] = {
    "is-sql": _sql(_whole, "to be SQL"),
    "contains-sql": _sql(_blocks, "to contain SQL"),
}
