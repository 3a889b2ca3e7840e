"""What ``llmdeploy calibrate-judge`` prints, from its result as builtins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pytest_llmdeploy.gates.wording import quote

MOST_LISTED = 20
"""Answers that are listed one by one."""


def lines(data: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines."""
    judge, counts = data["judge"], data["confusion"]
    votes = judge["votes"]
    yield f"judge: {judge['name']}, {votes} vote{'s' if votes > 1 else ''} an answer"
    missing = data["without_verdict"]
    yield (
        f"labels: {data['labels']}, of which {data['judged']} have a verdict; {missing['all']} have"
        f" none, {missing['unusable_replies']} of them as the reply could not be used"
    )
    yield ""
    by = {(each["label"], each["judge"]): each["answers"] for each in counts}
    yield "                judge: pass   judge: fail    no verdict"
    for label in ("pass", "fail"):
        cells = "".join(f"{by[label, said]:>14}" for said in ("pass", "fail", "no verdict"))
        yield f"  label: {label}{cells}"
    yield ""
    yield from _figures(data)
    yield from _listed(data)
    yield ""
    yield data["verdict"]
    yield data["conventions"]


def _figures(data: Mapping[str, Any]) -> Iterator[str]:
    agreement, same = data["agreement"], data["self_consistency"]
    if agreement["share"] is None:
        yield "agreement: nothing was judged"
        return
    yield (
        f"agreement: {agreement['share']:.1%} (95 % interval {agreement['lower']:.1%} to"
        f" {agreement['upper']:.1%}); always saying pass: {data['always_pass']:.1%}"
    )
    kappa = data["kappa"]
    yield f"Cohen's kappa: {'none, all are alike' if kappa is None else f'{kappa:.2f}'}"
    if same["times"] == 1:
        yield "self-consistency: not looked at (--again 1)"
        return
    kappas = ", ".join("none" if each is None else f"{each:.2f}" for each in same["kappas"])
    yield (
        f"self-consistency: {same['same']} of {same['answers']} answers came out the same"
        f" {same['times']} times (95 % interval {same['lower']:.1%} to {same['upper']:.1%});"
        f" kappa each time {kappas}"
    )


def _listed(data: Mapping[str, Any]) -> Iterator[str]:
    wrong = [each for each in data["answers"] if each["judge"][0] not in (each["label"],)]
    restless = [
        each
        for each in data["answers"]
        if each["judge"][0] == each["label"] and len(set(each["judge"])) > 1
    ]
    for title, answers in (
        ("without the label's verdict", wrong),
        ("with another verdict when asked again", restless),
    ):
        if not answers:
            continue
        yield ""
        yield f"{title}: {len(answers)}"
        for each in answers[:MOST_LISTED]:
            said = ", then ".join(each["judge"])
            place = next(n for n, word in enumerate(each["judge"]) if word != each["label"])
            yield f"  {each['id']}: label {each['label']}, judge {said}"
            yield f"    {quote(each['reasons'][place], 300)[1:-1]}"
        if len(answers) > MOST_LISTED:
            yield f"  … and {len(answers) - MOST_LISTED} more"
