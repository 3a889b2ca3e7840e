"""What makes two cases the same question with the same answer key: a hash of both."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from pytest_llmdeploy.gates.assertions import AssertionSet, AssertionSpec
from pytest_llmdeploy.gates.case import Case
from pytest_llmdeploy.ports import Message


def case_hash(
    case: Case, messages: Sequence[Message], parameters: Mapping[str, Any], judged_by: str = ""
) -> str:
    """Return a hash of what is asked and of what the answer must be, 16 hex digits.

    Neither the case's name nor its place counts. `judged_by` tells judges apart, where one is
    asked.
    """
    content = {
        "messages": [dict(message) for message in messages],
        "parameters": {**parameters, **case.parameters},
        "canned": case.canned,
        "assertions": [_described(spec) for spec in case.assertions],
        "judgement": case.judgement,
        "judged_by": judged_by,
        "threshold": case.threshold,
        "repeats": case.repeats,
        "k_of_n": case.k_of_n,
    }
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, default=repr)
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]


def _described(spec: AssertionSpec | AssertionSet) -> dict[str, Any]:
    if isinstance(spec, AssertionSet):
        return {
            "set": [_described(one) for one in spec.assertions],
            "threshold": spec.threshold,
            "weight": spec.weight,
        }
    return {
        "type": spec.name,
        "value": spec.value,
        "threshold": spec.threshold,
        "weight": spec.weight,
        "transform": spec.transform,
    }
