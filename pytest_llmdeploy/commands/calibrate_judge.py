"""``llmdeploy calibrate-judge``: does this judge say what people say of the same answers?"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytest_llmdeploy.assembly import Assembly, end_run
from pytest_llmdeploy.commands.arguments import add_config
from pytest_llmdeploy.commands.files import write_whole
from pytest_llmdeploy.commands.judge_agreement import compare, to_json
from pytest_llmdeploy.commands.judge_labels import Labelled, read_labels
from pytest_llmdeploy.commands.judge_runs import Judge, Outcome, judge_labels
from pytest_llmdeploy.commands.judge_table import lines
from pytest_llmdeploy.config.gates import JudgeConfig
from pytest_llmdeploy.errors import LLMDeployError
from pytest_llmdeploy.gates.grading import Judging
from pytest_llmdeploy.gates.suite import Clients
from pytest_llmdeploy.models.openai_chat import Endpoint, OpenAIChatModel
from pytest_llmdeploy.ports import Model
from pytest_llmdeploy.redaction import Redactor
from pytest_llmdeploy.run import Run, new_run_id

CONCURRENCY = 4
TIMEOUT = 60.0
MOST_TIMES = 20
INTERRUPTED = 130


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "calibrate-judge",
        help="Hold a judge's verdicts on answers against the labels of people",
    )
    parser.add_argument(
        "labels",
        type=Path,
        metavar="LABELS",
        help="File of answers with assert and label (JSON Lines, JSON, CSV, YAML)",
    )
    add_config(parser, "File whose gate has the judge")
    parser.add_argument("--gate", metavar="NAME", help="Gate whose judge is asked")
    parser.add_argument("--base-url", metavar="URL", help="Endpoint of a judge without a file")
    parser.add_argument("--model", metavar="NAME", help="With --base-url: the judging model")
    parser.add_argument(
        "--api-key-env", metavar="VARIABLE", help="With --base-url: variable that holds the key"
    )
    parser.add_argument(
        "--votes", type=_votes, metavar="K", help="Votes an answer (default: the gate's, or 1)"
    )
    parser.add_argument(
        "--again",
        type=_times,
        default=2,
        metavar="N",
        help="How often each answer is judged, to see whether the verdict stays (default: 2)",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="Write all of it as JSON")
    parser.set_defaults(run=run)


def _votes(text: str) -> int:
    if not (text.isdecimal() and len(text) < 3 and int(text) % 2):
        raise argparse.ArgumentTypeError(f"{text!r} is no odd number from 1 to 99")
    return int(text)


def _times(text: str) -> int:
    if not (text.isdecimal() and len(text) < 3 and 1 <= int(text) <= MOST_TIMES):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 to {MOST_TIMES}")
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    """Calibrate; 0 usable, 1 not usable, 10 not measured, 11 too few labels, 130 interrupted."""
    if (arguments.gate is None) == (arguments.base_url is None):
        raise LLMDeployError(
            "name the judge: --gate NAME for that of a gate, or --base-url URL with --model NAME"
        )
    labels = read_labels(arguments.labels)
    opened = _of_gate(arguments) if arguments.base_url is None else _of_address(arguments)
    with opened as judge:
        try:
            outcomes, name = judge_labels(labels, judge, arguments.again, _progress)
        except KeyboardInterrupt:
            return INTERRUPTED
        who = _described(judge, name, labels, outcomes)
        data = judge.redact(to_json(compare(labels, outcomes), labels, outcomes, who))
    for line in lines(data):
        print(line)
    if arguments.output is not None:
        write_whole(arguments.output, json.dumps(data, indent=1, ensure_ascii=False) + "\n")
    return int(data["exit_code"])


def _progress(done: int, of: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{done} of {of} judged", end="\n" if done == of else "", file=sys.stderr)


def _described(
    judge: Judge, name: str, labels: list[Labelled], outcomes: list[list[Outcome]]
) -> dict[str, Any]:
    """Return who judged, as the endpoint named itself, and by which prompts."""
    seen = [one.evidence for each in outcomes for one in each if one.evidence]
    return {
        "name": name,
        "models": sorted(
            {str(vote["model"]) for each in seen for vote in each.get("votes", ()) if vote["model"]}
        ),
        "votes": judge.judging.votes,
        "parameters": dict(judge.judging.parameters),
        "prompts": {
            str(each["prompt"]): str(each["prompt_sha256"]) for each in seen if "prompt" in each
        },
        "types": sorted({label.spec.type for label in labels}),
    }


@contextmanager
def _of_gate(arguments: argparse.Namespace) -> Iterator[Judge]:
    """Yield the judge of a gate of the file; a service that it needs lives as long."""
    for name in ("model", "api_key_env"):
        if getattr(arguments, name) is not None:
            option = name.replace("_", "-")
            raise LLMDeployError(f"--{option} belongs to --base-url; the gate has a judge already")
    with tempfile.TemporaryDirectory() as scratch:
        run = Run(id=new_run_id(), output=Path(scratch) / "run", environment=arguments.env)
        assembly = Assembly(run, lambda _registry: None)
        try:
            loaded = assembly.load(arguments.config)
            if arguments.gate not in loaded.gates:
                there = ", ".join(loaded.gates) or "none"
                raise LLMDeployError(
                    f"{arguments.config} has no gate '{arguments.gate}'; its gates: {there}"
                )
            plan = assembly.gate_plan(loaded, arguments.gate)
            own = plan.config.judge
            if own.endpoint is None and plan.config.endpoint is None:
                assembly.service(loaded)  # here, not on the loop: starting it takes a while
            yield Judge(
                plan.suite.clients,
                _judging(own, arguments, own.endpoint.model if own.endpoint else None),
                plan.suite.concurrency,
                plan.suite.timeout,
                plan.suite.redact,
            )
        finally:
            assembly.close()
            for line in end_run(run):
                print(line, file=sys.stderr)


@contextmanager
def _of_address(arguments: argparse.Namespace) -> Iterator[Judge]:
    """Yield a judge that no file describes."""
    if arguments.model is None:
        raise LLMDeployError("--base-url needs --model: a judge is pinned by its name")
    if not re.match(r"https?://\S+$", arguments.base_url):
        raise LLMDeployError(
            f"--base-url: '{arguments.base_url}' begins with no http:// or https://"
        )
    key = None
    if arguments.api_key_env is not None:
        key = os.environ.get(arguments.api_key_env)
        if not key:
            raise LLMDeployError(
                f"--api-key-env: the variable {arguments.api_key_env} is not set or is empty"
            )
    endpoint = Endpoint(arguments.base_url, arguments.model, key)

    def make() -> Model:
        return OpenAIChatModel(endpoint)

    yield Judge(
        Clients(make, make),
        _judging(JudgeConfig(), arguments, arguments.model),
        CONCURRENCY,
        TIMEOUT,
        Redactor([key] if key else []).deep,
    )


def _judging(config: JudgeConfig, arguments: argparse.Namespace, model: str | None) -> Judging:
    return Judging(
        config.parameters,
        arguments.votes or config.votes,
        config.timeout,
        model,
    )
