"""The JSON objects and lists that stand in a text, within bounds."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

MOST_WORK: Final = 5_000_000
"""Characters that are read in search of JSON, all attempts together."""
_START: Final = re.compile(r"\{\s{0,99}[\"}]|\[\s{0,99}[\]\[{\"\d\-tfn]")


def json_parts(text: str) -> Iterator[Any]:
    """Yield each object and list that is JSON as it stands, outer ones first.

    What stands in an object that was yielded is not yielded again; what stands in a list is, as
    brackets in prose enclose JSON, too. Raises ValueError for what is nested too deeply to be
    read, and when MOST_WORK does not suffice.
    """
    decoder = json.JSONDecoder(parse_constant=_refused)
    at = work = 0
    while found := _START.search(text, at):
        start = at = found.start()
        try:
            value, end = decoder.raw_decode(text, start)
        except RecursionError as error:
            raise ValueError("there is JSON nested too deeply to be read") from error
        except json.JSONDecodeError as error:
            # The error itself counts the lines before its place: quick, but not for nothing.
            at, work = start + 1, work + 1 + error.pos - start + error.pos // 50
        except ValueError:
            # NaN, or a number with more digits than Python reads.
            at, work = start + 1, work + len(text) - start
        else:
            work += end - start
            at = end if isinstance(value, dict) else start + 1
            yield value
        if work > MOST_WORK:
            raise ValueError("there are too many braces and brackets to look for JSON")


def _refused(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
