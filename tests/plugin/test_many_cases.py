"""Many processes ask one gate: no case twice, and one budget for all of them."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterable

from tests.plugin.conftest import Project
from tests.raw_server import Piece, RawServer, as_json, completion

CASES, BUDGET = 60, 40
CONFIG = f"""
service: {{model: raw}}
environments: {{local: {{url: "URL"}}}}
health: {{checks: []}}
smoke: {{checks: []}}
budget: {{requests: {BUDGET}}}
gates:
  many:
    cases: cases.jsonl
    prompt: "Capital of France? ({{{{ n }}}})"
    assert: ["equals: Paris"]
    concurrency: 8
"""


def test_four_processes_ask_each_case_once_and_share_the_budget(project: Project) -> None:
    asked: Counter[str] = Counter()
    lock = threading.Lock()

    def respond(request: bytes, _: int) -> Iterable[Piece]:
        if not request.startswith(b"POST"):  # whether the service is there
            yield as_json({"status": "ok"})
            return
        body = json.loads(request.partition(b"\r\n\r\n")[2])
        with lock:
            asked[body["messages"][-1]["content"]] += 1
        yield 0.01
        yield as_json(completion("Paris"))

    lines = (f'{{"id": "c{n}", "vars": {{"n": {n}}}}}' for n in range(CASES))
    project.write("cases.jsonl", "\n".join(lines))
    with RawServer(respond) as server:
        project.config(CONFIG.replace("URL", server.url))
        done = project.run("-m", "gates", "-n", "4")
    assert set(asked.values()) == {1}
    # A request is counted before it is sent: what is in flight is within the number.
    assert len(asked) == BUDGET
    assert done.counts() == {"passed": BUDGET, "skipped": CASES - BUDGET, "failed": 1}
    assert done.verdicts()["gates::many::gate"] == "INCONCLUSIVE"
