"""What is left of a load run: records and pages of real runs, and what must not be in them."""

from __future__ import annotations

import json

import pytest

from pytest_llmdeploy.load.ledger import read_ledger
from tests.plugin.conftest import Outcome, Project
from tests.plugin.test_load import STEADY, counted, summary
from tests.raw_server import RawServer, as_json

SECRET = "sk-live-0123456789abcdef"
LEAKY = """
import os
from locust import HttpUser, constant, task

class Leaky(HttpUser):
    wait_time = constant(0.05)

    @task(3)
    def ask(self):
        self.client.get(f"/items/{os.environ['KEY']}?key={os.environ['KEY']}")

    @task
    def stumble(self):
        raise RuntimeError("x" * 170 + os.environ["KEY"])
"""


def page(done: Outcome) -> str:
    """Return the run's report.html."""
    (report,) = done.reports
    return (report.parent / "report.html").read_text(encoding="utf-8")


def test_no_secret_of_a_locustfile_reaches_a_record_or_a_report(project: Project) -> None:
    project.write("locustfile.py", LEAKY)
    with RawServer(lambda *_: [as_json({}, "200 OK", f"x-version: v-{SECRET}")]) as server:
        project.config(
            """
service: {model: m, api_key: "${KEY}", version_header: x-version}
smoke: {checks: []}
environments: {local: {url: "URL"}}
load:
  mine: {locustfile: locustfile.py, users: 2, duration: 2, max_dispatch_lag: 2,
         objectives: ["e2e_p50 <= 5"]}
""".replace("URL", server.url)
        )
        done = project.run("-m", "load", env={"KEY": SECRET})
    assert (done.code, counted(done)) == (0, {"passed": 1}), done.out
    folder = done.reports[0].parent
    records = list(read_ledger(folder / "records/load/mine/ledger.jsonl.zst"))
    assert {record["version"] for record in records} == {"v-***"}
    assert {record["name"] for record in records} == {"GET /items/***?key=***"}
    assert any("tasks of the locustfile raised" in note for note in summary(done, "mine")["notes"])
    texts = [done.out, json.dumps(records)]
    texts += [
        file.read_text() for file in folder.rglob("*") if file.suffix != ".zst" and file.is_file()
    ]
    assert len(texts) > 5
    for text in texts:
        assert SECRET[:12] not in text


def test_a_comparison_is_drawn(project: Project) -> None:
    text = (STEADY % '"error_rate <= 10%"').replace("duration: 2", "duration: 4")
    project.config(
        text + '    compare: {url: "{url}", metrics: [e2e_p50], max_increase: 9, blocks: 16}\n'
    )
    done = project.run("-m", "load")
    assert done.code == 0, done.out
    found = summary(done)["comparison"]
    assert (found["verdict"], found["reason"]) == ("PASS", found["metrics"][0]["reason"])
    assert "No measurements to show" not in page(done)
    assert 'class="forest"' in page(done)


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ("max_dispatch_lag: 2", "max_dispatch_lag: 1.0e-9", "generator saturated at 40 req/s: "),
        (
            '"}}',
            '", load_limits: {requests: 99, tokens: 150, seconds: 9}}}',
            "before its time: the cap of 150 completion tokens was reached",
        ),
    ],
    ids=["late", "stopped"],
)
def test_a_run_that_is_no_measurement_is_drawn_below_the_reason(
    project: Project, before: str, after: str, why: str
) -> None:
    project.config((STEADY % '"ttft_p50 <= 5"').replace(before, after))
    done = project.run("-m", "load")
    assert done.code == 10, done.out
    _, _, section = page(done).partition("<h2>Load: steady")
    reason, _, measured = section.partition("no verdict on the service")
    assert why in reason
    for part in ("How requests ended", "Time to first token", "Timeline", "Load generator"):
        assert part in measured, part


def test_a_baseline_that_cannot_be_read_costs_the_traffic_once(project: Project) -> None:
    text = (STEADY % '"error_rate <= 10%", "e2e_p50 <= 5"').replace("duration: 2", "duration: 4")
    project.config(text)
    first = project.run("-m", "load")
    record = first.reports[0].parent / "records/load/steady"
    ledger = record / "ledger.jsonl.zst"
    ledger.write_bytes(ledger.read_bytes()[:9] + b"no ledger any more")
    compare = "    compare: {baseline: %s, metrics: [e2e_p50], blocks: 8}\n"
    project.config(text + compare % record.relative_to(project.path))
    done = project.run("-m", "load")
    assert (done.code, counted(done)) == (10, {"errors": 3}), done.out
    (reason,) = {item["reason"] for item in done.report["items"]}
    assert reason.startswith(f"{record} is no record of a load run: ")
    found = summary(done)
    assert found["classes"] == {"ok": 160}
