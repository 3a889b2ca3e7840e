"""The same gate in promptfoo and Inspect, beside ours: one model, one run, the same two checks.

The rivals are installed by you, outside this project: ``npm install promptfoo node@22`` in a
folder, ``pip install inspect-ai openai`` in a virtual environment. What is not given is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from common import Timing, mock_model, seen, table, timed
from gates import GATES, Size, all_passed, project, succeeded

QUIET = ("--no-cache", "--no-table", "--no-progress-bar", "--no-share", "--no-write")
PROMPTFOO_VARIABLES = {
    "PROMPTFOO_DISABLE_TELEMETRY": "1",
    "PROMPTFOO_DISABLE_UPDATE": "1",
    "PROMPTFOO_DISABLE_REMOTE_GENERATION": "1",
}
INSPECT_TASK = """
from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.scorer import Score, accuracy, scorer
from inspect_ai.solver import generate

@scorer(metrics=[accuracy()])
def two_checks():
    async def score(state, target):
        said = state.output.completion
        return Score(value="paris" in said.lower() and len(said.split()) == 1)
    return score

@task
def many():
    samples = [
        Sample(input=f"What is the capital of France? ({{n}})", target="paris", id=n + 1)
        for n in range({cases})
    ]
    return Task(dataset=samples, solver=generate(), scorer=two_checks())
"""
Rival = Callable[[Size, str, Path], Timing]


def ours(*arguments: str) -> Rival:
    """Return our own row."""

    def row(size: Size, url: str, root: Path) -> Timing:
        project(size, url, root)
        return all_passed(timed([*GATES, *arguments], root, tree=True), size)

    return row


def promptfoo(folder: Path, *arguments: str) -> Rival:
    """Return the row of the promptfoo that is installed in a folder."""

    def row(size: Size, url: str, root: Path) -> Timing:
        config = {
            "prompts": ["What is the capital of France? ({{ n }})"],
            "providers": [
                {"id": "openai:chat:mock", "config": {"apiBaseUrl": f"{url}/v1", "apiKey": "none"}}
            ],
            "defaultTest": {
                "assert": [
                    {"type": "icontains", "value": "paris"},
                    {"type": "word-count", "value": 1},
                ]
            },
            "tests": [{"vars": {"n": n}} for n in range(size.cases)],
        }
        (root / "promptfooconfig.json").write_text(json.dumps(config))
        command = [*promptfoo_command(folder), "eval", "-c", "promptfooconfig.json", *QUIET]
        command += ["-o", "out.json", *(arguments or ("-j", str(size.concurrency)))]
        variables = {**PROMPTFOO_VARIABLES, "PROMPTFOO_CONFIG_DIR": str(root / "home")}
        done = succeeded(timed(command, root, tree=True, variables=variables))
        counts = json.loads((root / "out.json").read_text())["results"]["stats"]
        assert (counts["successes"], counts["failures"], counts["errors"]) == (size.cases, 0, 0)
        return done

    return row


def promptfoo_command(folder: Path) -> list[str]:
    """Return the program and its Node, both of the folder."""
    programs = folder / "node_modules" / ".bin"
    return [str(programs / "node"), str((programs / "promptfoo").resolve())]


def inspect(folder: Path, *arguments: str) -> Rival:
    """Return the row of the Inspect that is installed in a virtual environment."""

    def row(size: Size, url: str, root: Path) -> Timing:
        (root / "many.py").write_text(INSPECT_TASK.format(cases=size.cases))
        command = [str(folder / "bin" / "inspect"), "eval", "many.py", "--display", "none"]
        command += ["--model", "openai-api/mock/mock", "--log-format", "json", *arguments]
        variables = {
            "MOCK_BASE_URL": f"{url}/v1",
            "MOCK_API_KEY": "none",
            "INSPECT_LOG_DIR": str(root / "logs"),
        }
        done = succeeded(timed(command, root, tree=True, variables=variables))
        (log,) = (root / "logs").glob("*.json")
        results = json.loads(log.read_text())["results"]
        assert results["completed_samples"] == size.cases, results
        assert results["scores"][0]["metrics"]["accuracy"]["value"] == 1.0, results
        return done

    return row


def versions(promptfoo_folder: Path | None, environment: Path | None) -> str:
    """Return what was measured, when, and on what."""
    said = [
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} CPUs, {platform.system()}",
        f"load {os.getloadavg()[0]:.1f} at the start",
        f"Python {platform.python_version()}",
    ]
    if promptfoo_folder is not None:
        node, program = promptfoo_command(promptfoo_folder)
        said.append(f"Node {output(node, '--version')}")
        said.append(f"promptfoo {output(node, program, '--version')}")
    if environment is not None:
        python = str(environment / "bin" / "python")
        said.append(
            "Inspect "
            + output(
                python, "-c", "from importlib.metadata import version as v;print(v('inspect-ai'))"
            )
        )
    return "; ".join(said)


def output(*command: str) -> str:
    """Return the last line that a command prints."""
    variables = {**os.environ, **PROMPTFOO_VARIABLES}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=variables)
    return done.stdout.strip().splitlines()[-1]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--promptfoo", type=Path, help="Folder with node_modules/.bin/promptfoo")
    parser.add_argument("--venv", type=Path, help="Virtual environment with inspect-ai and openai")
    parser.add_argument("--cases", type=int, default=1000, help="Cases (1000)")
    parser.add_argument("--concurrency", type=int, default=50, help="Requests in flight (50)")
    parser.add_argument("--seconds", type=float, default=0.2, help="Until an answer comes (0.2)")
    parser.add_argument("--runs", type=int, default=3, help="Runs of ours and promptfoo (3)")
    parser.add_argument("--slow-runs", type=int, default=1, help="Runs of Inspect (1)")
    given = parser.parse_args()
    size = Size(given.cases, given.concurrency, given.seconds)
    many = str(size.concurrency)
    rows: dict[str, tuple[Rival, int]] = {"pytest -m gates": (ours(), given.runs)}
    if given.promptfoo is not None:
        rows[f"promptfoo -j {many}"] = (promptfoo(given.promptfoo.absolute()), given.runs)
    if given.venv is not None:
        environment = given.venv.absolute()
        wide = ("--max-connections", many, "--max-samples", many)
        rows[f"inspect {' '.join(wide)}"] = (inspect(environment, *wide), given.slow_runs)
    print(f"\n{versions(given.promptfoo, given.venv)}")
    print(
        f"\n{size.cases} cases, {size.concurrency} in flight, {size.seconds * 1000:.0f} ms an"
        f" answer, floor {size.floor:.1f} s; medians\n"
    )
    # One run of each in turn: whatever else the machine does meets all of them.
    done: dict[str, list[tuple[Timing, dict[str, float]]]] = {name: [] for name in rows}
    for number in range(max(runs for _, runs in rows.values())):
        for name, (row, runs) in rows.items():
            if number < runs:
                with mock_model(size.seconds) as url, tempfile.TemporaryDirectory() as folder:
                    timing = row(size, url, Path(folder))
                    done[name].append((timing, seen(url)))
                    print(f"{name}: {timing.wall:.1f} s", file=sys.stderr, flush=True)
    printed: list[list[object]] = []
    best = statistics.median(timing.wall for timing, _ in done["pytest -m gates"])
    for name, measured in done.items():
        walls = sorted(timing.wall for timing, _ in measured)
        middle = statistics.median(walls)
        printed.append(
            [
                name,
                len(walls),
                f"{middle:.1f}",
                f"{walls[0]:.1f}-{walls[-1]:.1f}",
                f"{middle / best:.2f}",
                f"{statistics.median(saw['span'] for _, saw in measured):.1f}",
                max(saw["peak"] for _, saw in measured),
                max(saw["total"] for _, saw in measured),
                f"{statistics.median(timing.cpu for timing, _ in measured):.1f}",
                f"{statistics.median(timing.memory_mb for timing, _ in measured):.0f}",
            ]
        )
    head = ["", "runs", "wall s", "range", "x ours", "asking s", "peak", "requests", "CPU s"]
    table([*head, "RSS MB"], printed)


if __name__ == "__main__":
    sys.exit(main())
