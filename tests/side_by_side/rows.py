"""What promptfoo said of a config's rows, what we say, and where the two differ."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from pytest_llmdeploy.config.gates import SuiteConfig
from pytest_llmdeploy.errors import ConfigError, NotMeasuredError
from pytest_llmdeploy.gates.grading import Judging, LoopGrading
from pytest_llmdeploy.gates.promptfoo.config_file import read_config
from pytest_llmdeploy.gates.promptfoo.grading import evaluate_row, score_row
from pytest_llmdeploy.gates.promptfoo.js_values import parse_json, stringify
from pytest_llmdeploy.gates.promptfoo.matrix import Planned, read_matrix
from pytest_llmdeploy.gates.promptfoo.providers import PARAMETERS
from pytest_llmdeploy.gates.promptfoo.suite import case_of
from pytest_llmdeploy.models.openai_chat import Endpoint, OpenAIChatModel
from pytest_llmdeploy.models.openai_embeddings import OpenAIEmbedder
from pytest_llmdeploy.ports import Answer
from tests.side_by_side import server
from tests.unrecorded import Unrecorded

CONFIGS = Path(__file__).parent / "configs"
ENVIRONMENT = {"SIDE_BY_SIDE_CITY": "Oslo", "SIDE_BY_SIDE_API_KEY": "not to be told"}
"""Variables that both sides run with."""
RECORD = "rows.json"
DIFFERENCES = "differences.txt"
"""Beside a config: a line for each reason for which rows are errors here and not there."""
ALLOW_CODE = "allow_code"
"""A file of this name beside a config lets its code run."""
SERVED = "served"
"""A file of this name beside a config has it asked of `server`, on both sides."""
REQUEST = ["messages", *PARAMETERS]
"""What of a request both sides have to send alike."""
_PRICES = (0.001, 0.002)
"""Dollars a token of prompt and answer, as the configs have them too."""


@dataclass(frozen=True, slots=True)
class Told:
    """One row, as either side tells it."""

    prompt: str
    variables: str
    provider: str
    description: str
    verdict: str
    """pass, fail or error."""
    score: float
    problem: str = ""
    """Why it is an error here."""

    @property
    def test(self) -> tuple[str, ...]:
        """What both sides call the row's test by."""
        # promptfoo tells OpenAI's chat models with their kind where they are written as options.
        who = self.provider.replace("openai:chat:", "openai:")
        return (self.variables, who, self.description)


@dataclass(frozen=True, slots=True)
class Sides:
    """A config, told by both."""

    theirs: Sequence[Told]
    refused: bool
    """promptfoo ended without a result, or without a row."""
    ours: Sequence[Told]
    message: str
    """Why we refuse the config; empty where we don't."""
    sent_there: Sequence[str] = ()
    """Requests to the judged model, in no order of their own."""
    sent_here: Sequence[str] = ()


def folders() -> list[Path]:
    """Return the folders of all configs that have a record."""
    return sorted(path.parent for path in CONFIGS.glob(f"*/{RECORD}"))


def config_of(folder: Path) -> Path:
    """Return the config of a folder."""
    return next(folder.glob("promptfooconfig.*"))


def sides(folder: Path) -> Sides:
    """Return what both say of the folder's config."""
    record = json.loads((folder / RECORD).read_text("utf-8"))
    theirs = [Told(**row) for row in record["rows"]]
    sent: list[str] = []
    try:
        ours, message = told_by_us(folder, sent), ""
    except ConfigError as error:
        ours, message = [], str(error)
    return Sides(theirs, not theirs, ours, message, record.get("requests", []), sorted(sent))


def requests_of(served: server.Served) -> list[str]:
    """Return what the service was asked, each request as one text."""
    return sorted(
        json.dumps({key: body[key] for key in REQUEST if body.get(key) is not None}, sort_keys=True)
        for body in served.take()
    )


def told_by_us(folder: Path, sent: list[str]) -> list[Told]:
    """Read a config, ask and judge its rows; `sent` gets the requests. Raises ConfigError."""
    config = SuiteConfig(
        promptfoo=config_of(folder).name, allow_code=(folder / ALLOW_CODE).exists()
    )
    read = read_config(config_of(folder), folder)
    matrix = read_matrix(read, allow_code=config.allow_code, parameters={})
    if not (folder / SERVED).exists():
        return [_judged(planned, config, _canned(planned, config), None) for planned in matrix.rows]
    with server.serving() as served:
        told = asyncio.run(_asked(matrix.rows, config, served.url))
        sent += requests_of(served)
    return told


def _canned(planned: Planned, config: SuiteConfig) -> Answer | None:
    case = case_of(planned, config)
    if case.problem:
        return None
    assert case.canned is not None, f"{case.id} would ask a model"
    return Answer(case.canned, None, None, None, 0.0, "canned", replayed=True)


async def _asked(rows: Sequence[Planned], config: SuiteConfig, url: str) -> list[Told]:
    model = OpenAIChatModel(Endpoint(url, "judged"), retries=0)
    judge = OpenAIChatModel(Endpoint(url, server.JUDGE), retries=0)
    grading = LoopGrading(
        Judging(model=server.JUDGE),
        lambda: Unrecorded(judge),
        lambda: OpenAIEmbedder(Endpoint(url, "vectors"), retries=0),
    )
    told: list[Told] = []
    try:
        for planned in rows:
            case = case_of(planned, config)
            answer: Answer | NotMeasuredError | None = None
            if not case.problem and case.canned is None:
                try:
                    answer = await model.ask(planned.messages, case.parameters, 10)
                    answer = replace(answer, cost=_cost(answer))
                except NotMeasuredError as error:
                    answer = error
            else:
                answer = _canned(planned, config)
            told.append(await asyncio.to_thread(_judged, planned, config, answer, grading))
    finally:
        await grading.aclose()
        await model.aclose()
        await judge.aclose()
    return told


def _cost(answer: Answer) -> float:
    tokens = (answer.prompt_tokens or 0, answer.completion_tokens or 0)
    return tokens[0] * _PRICES[0] + tokens[1] * _PRICES[1]


def _judged(
    planned: Planned,
    config: SuiteConfig,
    answer: Answer | NotMeasuredError | None,
    grading: LoopGrading | None,
) -> Told:
    row = planned.row
    verdict, score, problem = "error", 0.0, case_of(planned, config).problem or ""
    if isinstance(answer, NotMeasuredError):
        problem = str(answer)
    elif answer is not None:
        try:
            results = evaluate_row(row, planned.messages, answer, grading)
            judged = score_row(row, results)
            verdict, score = "pass" if judged.passed else "fail", judged.score
        except NotMeasuredError as error:
            problem = str(error)
    return Told(
        row.prompt.rendered,
        _variables(row.test["vars"]),
        row.provider.label,
        row.description,
        verdict,
        score,
        problem,
    )


def told_by_promptfoo(output: Mapping[str, Any]) -> list[Told]:
    """Return the rows of promptfoo's own output, in the order of its matrix."""
    rows = sorted(output["results"]["results"], key=lambda row: (row["testIdx"], row["promptIdx"]))
    return [_told(row) for row in rows]


def _told(row: Mapping[str, Any]) -> Told:
    provider = row["provider"]
    answer = (row.get("response") or {}).get("output")
    prompt = row["prompt"]["raw"]
    if provider["id"] == "echo" and isinstance(answer, str) and plain(answer) == plain(prompt):
        prompt = answer  # its output shows JSON without the spaces that were sent
    verdict = "pass" if row["success"] else "error" if row["failureReason"] == 2 else "fail"
    return Told(
        prompt,
        _variables(row["vars"]),
        provider.get("label") or provider["id"],
        str(row["testCase"].get("description") or ""),
        verdict,
        float(row["score"]),
    )


def _variables(values: Mapping[str, Any]) -> str:
    """Return the variables of a test as one text, in no order of their own."""
    shown = {
        name: plain(value) if isinstance(value, str) else parse_json(stringify(value))
        for name, value in sorted(values.items())
    }
    return stringify(shown)


@cache
def plain(text: str) -> str:
    """Return JSON without the spaces between its parts; any other text as it is."""
    try:
        return stringify(parse_json(text))
    except ValueError:
        return text


def differences(folder: Path) -> list[str]:
    """Return a line for each way in which the two sides differ, expected ones left out."""
    both = sides(folder)
    if both.refused or both.message:
        if both.refused and both.message:
            return []
        who = "promptfoo refuses it" if both.refused else f"we refuse it: {both.message}"
        return [f"{folder.name}: {who}, the other side does not"]
    if len(both.theirs) != len(both.ours):
        return [f"{folder.name}: {len(both.theirs)} rows there, {len(both.ours)} here"]
    expected = _expected(folder)
    told: list[str] = []
    met: set[str] = set()
    for number, (theirs, ours) in enumerate(_paired(both.theirs, both.ours), start=1):
        where = f"{folder.name}, row {number} ({ours.description or ours.prompt[:40]!r})"
        reason = next((one for one in expected if one in ours.problem), None)
        if reason is not None and ours.verdict == "error":
            met.add(reason)
            continue
        apart = next(
            (one for one in expected if one.startswith(f"test {ours.description}: ")), None
        )
        if apart is not None and theirs.verdict != ours.verdict:
            met.add(apart)
            continue
        if theirs.test != ours.test:
            told.append(f"{where}: {theirs.test} there, {ours.test} here")
        if theirs.verdict != ours.verdict:
            why = f" ({ours.problem})" if ours.problem else ""
            told.append(f"{where}: {theirs.verdict} there, {ours.verdict} here{why}")
        elif theirs.verdict != "error":
            if abs(theirs.score - ours.score) > 1e-9:
                told.append(f"{where}: score {theirs.score} there, {ours.score} here")
            exact = "\n" in theirs.prompt
            if (
                (theirs.prompt != ours.prompt)
                if exact
                else (plain(theirs.prompt) != plain(ours.prompt))
            ):
                told.append(f"{where}: {theirs.prompt!r} there, {ours.prompt!r} here")
    told += [f"{folder.name}: no row is an error for '{one}'" for one in expected - met]
    there, here = Counter(both.sent_there), Counter(both.sent_here)
    told += [f"{folder.name}: sent there only: {one}" for one in (there - here)]
    told += [f"{folder.name}: sent here only: {one}" for one in (here - there)]
    return told


def _paired(theirs: Sequence[Told], ours: Sequence[Told]) -> list[tuple[Told, Told]]:
    """Return the rows of the same test and prompt; files of a pattern come in any order there."""
    left = sorted(ours, key=lambda row: row.test)
    pairs: list[tuple[Told, Told]] = []
    unmatched: list[Told] = []
    for row in sorted(theirs, key=lambda row: row.test):
        same = [
            other
            for other in left
            if other.test == row.test and plain(other.prompt) == plain(row.prompt)
        ]
        # Of several that are written alike the one that is judged alike.
        same.sort(key=lambda other: (other.verdict != row.verdict, abs(other.score - row.score)))
        if same:
            left.remove(same[0])
            pairs.append((row, same[0]))
        else:
            unmatched.append(row)
    return pairs + list(zip(unmatched, left, strict=True))


def _expected(folder: Path) -> set[str]:
    path = folder / DIFFERENCES
    return set(path.read_text("utf-8").splitlines()) if path.exists() else set()
