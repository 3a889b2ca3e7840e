"""Record, replay and re-judge, as a user meets them; also after ``kill -9``."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.plugin.conftest import Project, free_port

CONFIG = """
service: {model: scripted}
environments: {local: {url: "{url}"}}
health: {checks: []}
smoke: {checks: []}
gates:
  echo:
    prompt: "Say exactly: {{ word }}"
    cases:
      - {id: a, vars: {word: Paris}, assert: ["contains: Paris"]}
      - {id: b, vars: {word: Rome}, assert: ["contains: Roma"]}
    min_pass_rate: 0.5
"""


NO_CLIENT = """
import sys

def pytest_unconfigure():
    loaded = {"openai", "aiohttp"} & set(sys.modules)
    assert not loaded, f"{loaded} take longer to import than a replay takes"
"""
COMMAND = "import sys; from pytest_llmdeploy.commands import main; sys.exit(main(sys.argv[1:]))"


def rejudge(project: Project, folder: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "rejudge", str(folder)],
        cwd=project.path,
        env=project.variables(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_record_replay_and_judge_again(project: Project) -> None:
    project.config(CONFIG)
    recorded = project.run("-m", "gates", "--llmdeploy-replay", "record")
    assert recorded.counts() == {"passed": 2, "missed": 1}
    nobody = CONFIG.replace("{url}", f"http://127.0.0.1:{free_port()}")
    project.config(nobody)
    project.write("conftest.py", NO_CLIENT)
    replayed = project.run("-m", "gates", "--llmdeploy-replay", "strict")
    assert replayed.counts() == {"passed": 2, "missed": 1}
    assert replayed.verdicts() == recorded.verdicts()
    project.config(nobody.replace("Say exactly: ", "Say: "))
    missed = project.run("-m", "gates", "--llmdeploy-replay", "strict")
    assert missed.code != 0
    assert "the messages of this case have changed" in missed.out
    project.config(nobody.replace("min_pass_rate: 0.5", "min_pass_rate: 0.9"))
    code, said = rejudge(project, recorded.reports[0].parent)
    assert code == 1
    assert said.splitlines()[0] == "gate echo: recorded PASS, now FAIL (CHANGED)"


def test_answers_without_a_mode_are_a_usage_error(project: Project) -> None:
    project.config(CONFIG)
    done = project.run("--llmdeploy-answers", "x.sqlite")
    assert done.code == 4
    assert (
        "--llmdeploy-answers belongs to --llmdeploy-replay record or strict: give both" in done.out
    )


@pytest.mark.timeout(60)
def test_what_kill_9_leaves_can_be_judged(project: Project) -> None:
    cases = "\n".join(
        f'      - {{id: c{n}, vars: {{word: w{n}}}, assert: ["contains: w"]}}' for n in range(300)
    )
    head, _, _ = CONFIG.partition("    cases:")
    project.config(head + "    concurrency: 2\n    cases:\n" + cases + "\n")
    running = project.start("-m", "gates", "--llmdeploy-output", "out")
    record = project.path / "out" / "records" / "gates.sqlite"
    while finished(record) < 5:
        assert running.poll() is None
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    left = finished(record)
    assert 5 <= left < 300
    code, said = rejudge(project, project.path / "out")
    assert code != 0
    assert said.splitlines()[0] == "gate echo: recorded not recorded, now ERROR"
    assert f"{300 - left} of 300" in said


def finished(record: Path) -> int:
    """Return how many results there are."""
    try:
        with closing(sqlite3.connect(f"file:{record}?mode=ro", uri=True)) as database:
            (count,) = database.execute(
                "SELECT count(*) FROM cases WHERE result IS NOT NULL"
            ).fetchone()
            return int(count)
    except sqlite3.Error:
        return 0
