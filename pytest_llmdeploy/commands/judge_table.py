"""What ``llmdeploy calibrate-judge`` prints, from its result as builtins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pytest_llmdeploy.gates.wording import middle_cut

MOST_LISTED = 20
"""Answers of a kind that are listed one by one."""
FEW_LISTED = 5
"""The same of those without a verdict, whose reasons are much alike."""
LONGEST_REASON = 400
"""Characters."""


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
        f"agreement: {agreement['share']:.1%} (from {agreement['lower']:.1%} to"
        f" {agreement['upper']:.1%}, each with 95 % confidence);"
        f" always saying pass: {data['always_pass']:.1%}"
    )
    kappa = data["kappa"]
    yield f"Cohen's kappa: {'none, all are alike' if kappa is None else f'{kappa:.2f}'}"
    if same["times"] == 1:
        yield "self-consistency: not looked at (--again 1)"
        return
    kappas = ", ".join("none" if each is None else f"{each:.2f}" for each in same["kappas"])
    yield (
        f"self-consistency: {same['same']} of {same['answers']} answers came out the same"
        f" {same['times']} times ({same['same'] / same['answers']:.1%}, from {same['lower']:.1%});"
        f" kappa each time {kappas}"
    )


def _listed(data: Mapping[str, Any]) -> Iterator[str]:
    answers = data["answers"]
    silent = [each for each in answers if each["judge"][0] == "no verdict"]
    wrong = [each for each in answers if each not in silent and each["judge"][0] != each["label"]]
    restless = [
        each
        for each in answers
        if each["judge"][0] == each["label"] and len(set(each["judge"])) > 1
    ]
    for title, found, most in (
        ("judged against the label", wrong, MOST_LISTED),
        ("judged otherwise when asked again", restless, MOST_LISTED),
        ("without a verdict", silent, FEW_LISTED),
    ):
        if not found:
            continue
        yield ""
        yield f"{title}: {len(found)}"
        for each in found[:most]:
            said = ", then ".join(each["judge"])
            place = next(n for n, word in enumerate(each["judge"]) if word != each["label"])
            yield f"  {each['id']}: label {each['label']}, judge {said}"
            yield f"    {_plain(each['reasons'][place])}"
        if len(found) > most:
            yield f"  … and {len(found) - most} more"


def _plain(text: str) -> str:
    """Return the text on one line, without what could steer a terminal."""
    words = " ".join(middle_cut(text, LONGEST_REASON).split())
    return "".join(char if char.isprintable() else "?" for char in words)
