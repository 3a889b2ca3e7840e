"""Assertions on what should not be in an answer: personal data and secrets.

They are written as ``not-is-pii`` and ``not-is-secret``. Reasons name the kind and the place of
what was found, never what it says: reports are read by more people than answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pytest_llmdeploy.config.sentences import shown, suggestion
from pytest_llmdeploy.gates.assertions.spec import (
    AssertionContext,
    AssertionType,
    BadValue,
    Check,
    Finding,
    NotEvaluable,
    without_threshold,
)
from pytest_llmdeploy.gates.measures.leaks import PII, SECRETS, Finder, Leak, leaks

LONGEST = 200_000
"""Characters of an answer that are looked through."""
_SHOWN = 5
_WORDS = {
    "email": "an e-mail address",
    "phone": "a phone number",
    "iban": "an IBAN",
    "card": "a card number",
    "ssn": "a US social security number",
    "ip": "an IP address",
    "provider-key": "a provider's key",
    "private-key": "a private key",
    "jwt": "a JSON Web Token",
    "bearer": "a bearer token",
    "url-password": "a URL with a password",
    "assignment": "a credential with a random value",
}


def _leak(what: str, finders: Mapping[str, Finder]) -> AssertionType:
    def prepare(value: Any) -> Check:
        kinds = _kinds(value, finders)

        def judge(context: AssertionContext) -> Finding:
            text = context.answer.text
            if len(text) > LONGEST:
                raise NotEvaluable(
                    f"the answer has {len(text)} characters, at most {LONGEST} are looked through"
                )
            found = leaks(text, kinds)
            return Finding(bool(found), _came(found))

        chosen = f" ({', '.join(kinds)})" if value is not None else ""
        return Check(f"to have {what}{chosen}", judge)

    return without_threshold(prepare)


def _kinds(value: Any, finders: Mapping[str, Finder]) -> dict[str, Finder]:
    if value is None:
        return dict(finders)
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    if not isinstance(value, list | tuple) or not value:
        raise BadValue(f"the value must be a list of kinds, got {shown(value)}")
    for one in value:
        if not isinstance(one, str) or one not in finders:
            hint = suggestion(one, finders) if isinstance(one, str) else ""
            hint = hint or f", expected some of: {', '.join(finders)}"
            raise BadValue(f"there is no kind {shown(one)}{hint}")
    return {kind: finders[kind] for kind in value}


def _came(found: Sequence[Leak]) -> str:
    if not found:
        return "none was found"
    parts = [
        f"{_WORDS[one.kind]} of {one.length} characters at character {one.start + 1}"
        for one in found[:_SHOWN]
    ]
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return f"found {', '.join(parts)}{more}"


TYPES: Mapping[str, AssertionType] = {
    "is-pii": _leak("personal data", PII),
    "is-secret": _leak("secrets", SECRETS),
}
