"""What makes two cases the same question with the same demands: a hash of both."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pytest_llmdeploy.gates.assertions import AssertionSet, AssertionSpec
from pytest_llmdeploy.gates.case import Case


def case_hash(case: Case) -> str:
    """Return a hash of what a case asks of whatever answers, and demands of it, 16 hex digits.

    The suite's prompt, its parameters and the model are not in it: they are what a change may try
    out. Neither are the case's name, tags, weight and place.
    """
    content = {
        "vars": case.vars,
        "prompt": case.prompt,
        "canned": case.canned,
        "assertions": [_described(spec) for spec in case.assertions],
        "transforms": [transform.written for transform in case.transforms],
        "judgement": case.judgement,
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
        "transform": spec.transform.written if spec.transform else None,
    }
