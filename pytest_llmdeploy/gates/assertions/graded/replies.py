"""Read what a judge replied. Strictly: what is no verdict is told, and never counts as one."""

from __future__ import annotations

import re
from typing import Any

from pytest_llmdeploy.gates.assertions.spec import NotEvaluable
from pytest_llmdeploy.gates.wording import quote
from pytest_llmdeploy.untrusted import read_json

_FENCE = re.compile(r"```(?:json)?[ \t]*\n(.*)\n```", re.DOTALL)
_THOUGHT = "</think>"
MOST_ITEMS = 1000
"""Claims, sentences or questions of one reply."""


class UnusableReply(NotEvaluable):
    """The judge replied, and it was no verdict: another judge, or a clearer task, may help."""


class Reply:
    """The members of one reply; each reader raises UnusableReply with what came."""

    def __init__(self, text: str, key: str) -> None:
        """Take the whole text as one JSON object, its key first.

        A fence around it and a thought before it are common and taken off. An object somewhere in
        a text is no reply: it may be a piece of what was judged. So may an object without the key.
        """
        self._text = text
        body = text.rpartition(_THOUGHT)[2].strip()
        fence = _FENCE.fullmatch(body)
        try:
            value = read_json((fence[1] if fence else body).encode("utf-8", "replace"))
        except ValueError:
            raise self.broken("is no JSON object" if body else "is empty") from None
        if not isinstance(value, dict):
            raise self.broken("is no JSON object")
        self._members: dict[str, Any] = value
        if value.get("id") != key:
            raise self.broken("does not repeat the key of the texts")

    def broken(self, how: str) -> UnusableReply:
        """Return the error for a reply that cannot be used."""
        came = f": {quote(self._text)}" if self._text.strip() else ""
        return UnusableReply(f"the judge's reply {how}{came}")

    def flag(self, name: str) -> bool:
        """Return true or false."""
        value = self._members.get(name)
        if not isinstance(value, bool):
            raise self.broken(f"has no {name} that is true or false")
        return value

    def score(self) -> float:
        """Return the score, 0 to 1."""
        value = self._members.get("score")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.broken("has no score that is a number")
        if not 0 <= value <= 1:
            raise self.broken("has a score outside of 0 to 1")
        return float(value)

    def choice(self, name: str, choices: tuple[str, ...]) -> str:
        """Return one of `choices`."""
        value = self._members.get(name)
        if not isinstance(value, str) or value not in choices:
            raise self.broken(f"has no {name} that is one of {', '.join(choices)}")
        return value

    def reason(self) -> str:
        """Return the reason."""
        value = self._members.get("reason")
        if not isinstance(value, str) or not value.strip():
            raise self.broken("gives no reason")
        return value

    def texts(self, name: str) -> list[str]:
        """Return a list of texts."""
        value = self._list(name)
        if not all(isinstance(part, str) and part.strip() for part in value):
            raise self.broken(f"has {name} that are no texts")
        return value

    def share(self) -> float:
        """Return of how many items it is said that they hold."""
        items = self._list("items")
        for item in items:
            if (
                not isinstance(item, dict)
                or not isinstance(item.get("text"), str)
                or not isinstance(item.get("holds"), bool)
            ):
                raise self.broken("has items without text and holds")
        return sum(1 for item in items if item["holds"]) / len(items)

    def _list(self, name: str) -> list[Any]:
        value = self._members.get(name)
        if not isinstance(value, list) or not value:
            raise self.broken(f"has no list of {name}")
        if len(value) > MOST_ITEMS:
            raise self.broken(f"has more than {MOST_ITEMS} {name}")
        return value
