"""Record what promptfoo says of our configs, or show where it says something else than we do.

python tests/side_by_side/record.py FOLDER [NAME ...]    FOLDER has promptfoo in node_modules
python tests/side_by_side/record.py --compare [NAME ...]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.side_by_side import rows, server

TIMEOUT = 120.0
_FLAGS = ["--no-cache", "--no-table", "--no-progress-bar", "--no-share", "--no-write"]


def main(arguments: list[str]) -> int:
    """Record or compare; return 1 where something differs or cannot be recorded."""
    if not arguments:
        print(__doc__)
        return 2
    first, *names = arguments
    os.environ.update(rows.ENVIRONMENT)
    if first == "--compare":
        return compare(names)
    install = Path(first).resolve()
    package = json.loads((install / "node_modules/promptfoo/package.json").read_text("utf-8"))
    local = install / "node_modules/.bin/node"
    node = str(local) if local.exists() else "node"
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True)
    tools = {"promptfoo": package["version"], "node": version.stdout.strip()}
    print(f"promptfoo {tools['promptfoo']}, node {tools['node']}")
    program = install / "node_modules/promptfoo" / _program(package)
    chosen = [
        path
        for path in sorted(rows.CONFIGS.iterdir())
        if not names or any(path.name.startswith(name) for name in names)
    ]
    with ThreadPoolExecutor(2) as pool:
        for line in pool.map(lambda path: record(path, [node, str(program)], tools), chosen):
            print(line, flush=True)
    return 0


def _program(package: dict[str, Any]) -> str:
    return str(package["bin"]["promptfoo"])


def record(folder: Path, command: list[str], tools: dict[str, str]) -> str:
    """Run promptfoo on the config of a folder and write what it said; return a line about it."""
    with tempfile.TemporaryDirectory() as scratch, server.serving() as served:
        environment = {}
        if (folder / rows.SERVED).exists():
            environment = {"OPENAI_BASE_URL": served.url, "OPENAI_API_KEY": "none"}
        output = Path(scratch) / "out.json"
        done = subprocess.run(
            [*command, "eval", "-c", rows.config_of(folder).name, *_FLAGS, "-o", str(output)],
            cwd=folder,
            env={
                "PATH": os.environ["PATH"],
                "HOME": scratch,
                "TZ": "UTC",
                "PROMPTFOO_CONFIG_DIR": scratch,
                "PROMPTFOO_DISABLE_TELEMETRY": "1",
                "PROMPTFOO_DISABLE_UPDATE": "1",
                **rows.ENVIRONMENT,
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        told = []
        if output.exists():
            told = rows.told_by_promptfoo(json.loads(output.read_text("utf-8")))
        sent = rows.requests_of(served)
    kept = {**tools, "exit": done.returncode, "rows": [_kept(row) for row in told]}
    if environment:
        kept["requests"] = sent
    text = json.dumps(kept, ensure_ascii=False, indent=1)
    (folder / rows.RECORD).write_text(f"{text}\n", "utf-8")
    return f"{folder.name}: exit {done.returncode}, {len(told)} rows"


def _kept(row: rows.Told) -> dict[str, Any]:
    kept = asdict(row)
    del kept["problem"]  # whatever it is, it is ours
    return kept


def compare(names: list[str]) -> int:
    """Print a table of both sides' rows and every difference; return 1 where there is one."""
    wrong: list[str] = []
    total = agreed = 0
    print(f"{'config':44} {'there':>6} {'here':>6}  same")
    for folder in rows.folders():
        if names and not any(folder.name.startswith(name) for name in names):
            continue
        both = rows.sides(folder)
        found = rows.differences(folder)
        wrong += found
        total += len(both.theirs)
        agreed += 0 if found else len(both.theirs)
        there = "no" if both.refused else str(len(both.theirs))
        here = "no" if both.message else str(len(both.ours))
        print(f"{folder.name:44} {there:>6} {here:>6}  {'yes' if not found else 'NO'}")
    print(f"{agreed} of {total} rows are in configs without a difference")
    for line in wrong:
        print(f"  {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
