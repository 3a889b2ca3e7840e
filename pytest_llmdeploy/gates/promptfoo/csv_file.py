"""Tables of comma-separated values: a header, then a record a row."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_llmdeploy.errors import ConfigError, Problem

_MARKS = '"', ",", "\n", "\r"


class _BadQuoteError(Exception):
    """A quote stands where strict tables have none."""


def parse_csv(text: str, file: str, *, relaxed: bool = False) -> list[tuple[int, dict[str, str]]]:
    """Return each record with its line; `file` is the table's name in messages.

    With `relaxed` a table with quotes in odd places is read once more, the quotes as text. Every
    record has the header's number of cells. Raises ConfigError.
    """
    try:
        records = list(_records(text, file, relaxed=False))
    except _BadQuoteError as error:
        if not relaxed:
            raise ConfigError([Problem(file, int(str(error)), "", _ODD)]) from error
        records = list(_records(text, file, relaxed=True))
    if not records:
        return []
    (_, header), *rows = records
    for line, cells in rows:
        if len(cells) != len(header):
            message = f"cells in this row: {len(cells)}, in the header: {len(header)}"
            raise ConfigError([Problem(file, line, "", message)])
    return [(line, dict(zip(header, cells, strict=True))) for line, cells in rows]


_ODD = "a quote stands inside a cell: put the whole cell in quotes and double those inside"


def _records(text: str, file: str, *, relaxed: bool) -> Iterator[tuple[int, list[str]]]:
    text = text.removeprefix("\ufeff")
    at, line = 0, 1
    while at < len(text):
        cells: list[str] = []
        start = line
        while True:
            cell, at, line = _cell(text, at, line, file, relaxed=relaxed)
            cells.append(cell)
            if at >= len(text) or text[at] != ",":
                break
            at += 1
        yield start, cells
        if text.startswith("\r\n", at):
            at += 1
        at += 1
        line += 1


def _cell(text: str, at: int, line: int, file: str, *, relaxed: bool) -> tuple[str, int, int]:
    """Return a cell, the position behind it and the line there."""
    if not text.startswith('"', at):
        end = min((found for mark in _MARKS[1:] if (found := text.find(mark, at)) >= 0),
                  default=len(text))  # fmt: skip
        if '"' in text[at:end] and not relaxed:
            raise _BadQuoteError(line)
        return text[at:end], end, line
    opened = line
    parts: list[str] = []
    start, at = at, at + 1
    while True:
        end = text.find('"', at)
        if end < 0:
            raise ConfigError([Problem(file, opened, "", "a quote is opened and never closed")])
        parts.append(text[at:end])
        line += text.count("\n", at, end)
        at = end + 1
        if text.startswith('"', at):
            parts.append('"')
            at += 1
        elif at >= len(text) or text[at] in _MARKS[1:]:
            return "".join(parts), at, line
        elif not relaxed:
            raise _BadQuoteError(line)
        else:  # not the closing quote after all: the cell has none
            end = min((found for mark in _MARKS[1:] if (found := text.find(mark, at)) >= 0),
                      default=len(text))  # fmt: skip
            return (
                text[start:end] if len(parts) == 1 else f'"{"".join(parts)}{text[at - 1 : end]}',
                end,
                line,
            )
