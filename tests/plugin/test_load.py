"""The load stage as a user meets it: items, verdicts, records, and what stops a run."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_llmdeploy.load.ledger import read_ledger
from tests.plugin.conftest import Outcome, Project, processes_of, wait_for
from tests.raw_server import Piece, RawServer, as_json, completion

STEADY = """
service: {version_header: x-llm-version}
environments: {local: {url: "{url}"}}
load:
  steady:
    rate: 40
    arrivals: constant
    duration: 2
    max_tokens: 4
    self_check: 0
    max_dispatch_lag: 2
    objectives: [%s]
"""


def summary(done: Outcome, name: str = "steady") -> dict[str, Any]:
    """Return the summary of a load run."""
    (report,) = done.reports
    path = report.parent / "records" / "load" / name / "summary.json"
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value


def counted(done: Outcome) -> dict[str, int]:
    """Return pytest's own counts of the load items."""
    return {word: number for word, number in done.counts().items() if word != "deselected"}


def test_each_objective_is_an_item_and_the_traffic_is_sent_once(project: Project) -> None:
    project.config(STEADY % '"ttft_p90 <= 2", "error_rate <= 5%", "throughput >= 1/s"')
    done = project.run("-m", "load")
    assert (done.code, counted(done)) == (0, {"passed": 3}), done.out
    assert done.verdicts() == {
        "load::steady::ttft_p90": "PASS",
        "load::steady::error_rate": "PASS",
        "load::steady::throughput": "PASS",
    }
    found = summary(done)
    assert found["intended"] == found["judged"] == 80
    assert found["classes"] == {"ok": 80}
    assert found["versions"] == {"1.0.0": 80}
    assert found["model"] == "open loop"
    detail = done.report["items"][0]["detail"]
    assert detail["summary"] == "records/load/steady/summary.json"
    assert detail["objective"]["n"] == 80
    folder = done.reports[0].parent / "records/load/steady"
    assert sorted(path.name for path in folder.iterdir()) == ["ledger.jsonl.zst", "summary.json"]
    records = list(read_ledger(folder / "ledger.jsonl.zst"))
    assert sorted(record["i"] for record in records) == list(range(80))
    page = (done.reports[0].parent / "report.html").read_text(encoding="utf-8")
    assert "steady" in page
    assert "ttft_p90" in page


def test_a_missed_objective_fails_and_says_what_was_sent(project: Project) -> None:
    project.config(STEADY % '"e2e_p50 <= 0.1 ms"')
    done = project.run("-m", "load")
    assert done.code == 1, done.out
    assert counted(done) == {"failed": 1}
    assert "e2e_p50 <= 0.0001 is missed" in done.out
    assert "traffic: constant arrivals, 40/s for 2 s (open loop)" in done.out


def test_too_few_requests_are_inconclusive_and_say_how_many_it_takes(project: Project) -> None:
    project.config(STEADY % '"error_rate <= 1%"')
    done = project.run("-m", "load")
    assert done.code == 11, done.out
    assert "about 299 would be needed" in done.out


def test_a_generator_that_is_late_gives_no_verdict(project: Project) -> None:
    text = (STEADY % '"ttft_p50 <= 5"').replace("max_dispatch_lag: 2", "max_dispatch_lag: 1.0e-9")
    project.config(text)
    done = project.run("-m", "load")
    assert (done.code, counted(done)) == (10, {"error": 1}), done.out
    assert "generator saturated at 40 req/s" in done.out
    assert "it is the machine that is busy" in done.out or "use `processes: 2`" in done.out
    assert summary(done)["classes"] == {"ok": 80}


def test_the_generator_is_measured_against_a_mock_first(project: Project) -> None:
    text = (STEADY % '"ttft_p50 <= 5"').replace("self_check: 0", "self_check: 0.5")
    project.config(text.replace("max_dispatch_lag: 2", "max_dispatch_lag: 1.0e-9"))
    done = project.run("-m", "load")
    assert done.code == 10, done.out
    assert "generator saturated at 40 req/s" in done.out
    found = summary(done)
    assert found["generator"]["check"]["verdict"] == "saturated"
    assert "intended" not in found, "no traffic reached the service"


def test_load_is_skipped_where_smoke_fails_and_the_run_does_not_pass(project: Project) -> None:
    def respond(_request: bytes, _number: int) -> Iterator[Piece]:
        yield as_json({"error": {"message": "no"}}, "500 Internal Server Error")

    with RawServer(respond) as server:
        project.config(
            (STEADY % '"ttft_p50 <= 5", "error_rate <= 5%"').replace("{url}", server.url)
        )
        done = project.run("-m", "load", "-rs")
        asked = len(server.requests)
    assert (done.code, counted(done)) == (10, {"skipped": 2}), done.out
    assert "smoke check 'models' fails" in done.out
    assert asked <= 3, "no load was put on it"
    assert {item["verdict"] for item in done.report["items"]} == {"ERROR"}


def test_load_goes_to_hosts_that_the_environment_names_alone(project: Project) -> None:
    project.config((STEADY % '"ttft_p50 <= 5"').replace("{url}", "http://llm.invalid:1"))
    done = project.run("-m", "load")
    assert done.code == 10, done.out
    assert "load may not be put on llm.invalid" in done.out
    assert "environments.local.load_hosts" in done.out


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ("{requests: 79, tokens: 999, seconds: 9}", "would send 80 requests"),
        ("{requests: 99, tokens: 999, seconds: 1}", "would take 2 s of traffic"),
        ("{requests: 99, tokens: 40, seconds: 9}", "the cap of 40 completion tokens was reached"),
    ],
)
def test_a_run_that_costs_more_than_its_caps_is_no_measurement(
    project: Project, limits: str, said: str
) -> None:
    text = STEADY % '"ttft_p50 <= 5"'
    project.config(text.replace('"}}', f'", load_limits: {limits}}}}}'))
    done = project.run("-m", "load")
    assert (done.code, counted(done)) == (10, {"error": 1}), done.out
    assert said in done.out


def test_under_xdist_one_process_sends_for_all_and_one_run_at_a_time(project: Project) -> None:
    text = STEADY % '"ttft_p50 <= 5", "error_rate <= 10%"'
    second = "  other:\n" + "\n".join(text.splitlines()[5:]) + "\n"
    project.config(text + second)
    done = project.run("-m", "load", "-n", "2", "--dist", "load")
    assert (done.code, counted(done)) == (0, {"passed": 4}), done.out
    first, other = summary(done), summary(done, "other")
    assert first["intended"] == other["intended"] == 80
    begun = sorted((run["started"], run["duration"]) for run in (first, other))
    from datetime import datetime, timedelta

    ended = datetime.fromisoformat(begun[0][0]) + timedelta(seconds=begun[0][1])
    assert datetime.fromisoformat(begun[1][0]) >= ended


def test_gevent_never_enters_the_pytest_process(project: Project) -> None:
    project.config(STEADY % '"ttft_p50 <= 5"')
    project.write(
        "conftest.py",
        "import sys\n"
        "def pytest_sessionfinish(session):\n"
        "    for name in ('gevent', 'locust'):\n"
        "        assert name not in sys.modules, name\n",
    )
    done = project.run("-m", "load")
    assert (done.code, counted(done)) == (0, {"passed": 1}), done.out


def _slow(_request: bytes, number: int) -> Iterator[Piece]:
    if number <= 6:
        yield as_json({"data": [{"id": "m"}]} if number == 1 else completion())
    else:
        yield 60.0


RECORD = ("ledger.jsonl.zst", "summary.json")
SLOW = """
environments: {local: {url: "{url}"}}
smoke: {checks: []}
service: {model: m}
load:
  steady: {rate: 20, duration: 60, self_check: 0, streamed: 0, objectives: ["e2e_p50 <= 5"]}
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_a_run_that_was_ended(project: Project, number: int) -> None:
    with RawServer(_slow) as server:
        project.config(SLOW.replace("{url}", server.url))
        process = project.start("-m", "load", "--llmdeploy-output", str(project.path / "out"))
        wait_for(lambda: len(server.requests) > 10, "the traffic")
        process.send_signal(number)
        process.communicate(timeout=30)
    wait_for(lambda: not processes_of(str(project.path)), "the end of all processes")
    if number != signal.SIGKILL:
        report = json.loads((project.path / "out" / "report.json").read_text())
        assert report["run"]["interrupted"]
        folder = project.path / "out" / "records" / "load" / "steady"
        found = json.loads((folder / "summary.json").read_text())
        assert found["error"] == "interrupted"
        assert found["classes"]["cancelled"] > 0
        records = list(read_ledger(folder / "ledger.jsonl.zst"))
        assert len(records) == sum(found["classes"].values()) == found["intended"]
        assert {path.name for path in folder.iterdir()} <= {*RECORD, "generator.log"}


def test_a_lost_generator_is_an_error_and_its_requests_are_accounted_for(project: Project) -> None:
    with RawServer(_slow) as server:
        text = SLOW.replace("rate: 20", "rate: 20, processes: 2, drain: 1, arrivals: constant")
        project.config(text.replace("{url}", server.url))
        process = project.start("-m", "load", "--llmdeploy-output", str(project.path / "out"))
        wait_for(lambda: len(server.requests) > 30, "the traffic")
        pids = [pid for pid in processes_of(str(project.path)) if _is_generator(pid)]
        os.kill(pids[0], signal.SIGKILL)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 10, out
    assert "was lost: killed by SIGKILL" in out
    found = json.loads((project.path / "out/records/load/steady/summary.json").read_text())
    assert found["classes"]["worker_lost"] > 0
    assert sum(found["classes"].values()) == found["intended"]


def _is_generator(pid: int) -> bool:
    return b"load.runner" in Path(f"/proc/{pid}/cmdline").read_bytes()


LOCUSTFILE = """
from locust import HttpUser, constant, task

class Chat(HttpUser):
    wait_time = constant(0.02)

    @task(4)
    def chat(self):
        body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 3}
        self.client.post("/v1/chat/completions", json=body)

    @task
    def nowhere(self):
        self.client.get("/nowhere", name="nowhere")
"""


def test_a_locustfile_runs_unchanged_with_our_ledger_and_verdicts(project: Project) -> None:
    project.write("locustfile.py", LOCUSTFILE)
    project.config("""
environments: {local: {url: "{url}"}}
load:
  mine:
    locustfile: locustfile.py
    users: 4
    duration: 3
    max_dispatch_lag: 2
    objectives: ["error_rate <= 5%", "e2e_p50 <= 5"]
""")
    done = project.run("-m", "load")
    assert (done.code, counted(done)) == (1, {"failed": 1, "passed": 1}), done.out
    found = summary(done, "mine")
    assert set(found["classes"]) == {"ok", "http_4xx"}
    assert found["model"] == "locustfile"
    assert "nowhere" in found["failures"][0]["detail"]
    assert found["notes"]


def test_a_locustfile_that_cannot_be_loaded_is_an_error_with_its_last_words(
    project: Project,
) -> None:
    project.write("locustfile.py", "import nothing_of_this_name\n")
    project.config("""
environments: {local: {url: "{url}"}}
load: {mine: {locustfile: locustfile.py, duration: 3, objectives: ["error_rate <= 5%"]}}
""")
    done = project.run("-m", "load")
    assert (done.code, counted(done)) == (10, {"error": 1}), done.out
    assert "nothing_of_this_name" in done.out


def test_a_run_is_compared_with_an_earlier_record(project: Project) -> None:
    text = (STEADY % '"error_rate <= 10%"').replace("duration: 2", "duration: 4")
    project.config(text)
    first = project.run("-m", "load")
    assert first.code == 0, first.out
    record = (first.reports[0].parent / "records/load/steady").relative_to(project.path)
    compare = "    compare: {baseline: %s, metrics: [e2e_p50], max_increase: %s, blocks: 8}\n"
    project.config(text + compare % (record, 9))
    done = project.run("-m", "load")
    assert done.code == 0, done.out
    assert done.verdicts()["load::steady::compare-e2e_p50"] == "PASS"
    project.config(text.replace("rate: 40", "rate: 30") + compare % (record, 9))
    done = project.run("-m", "load")
    assert done.code == 10, done.out
    assert "not comparable" in done.out
    assert "steps differed there" in done.out


def test_two_versions_get_the_traffic_in_turns(project: Project) -> None:
    text = (STEADY % '"error_rate <= 10%"').replace("duration: 2", "duration: 4")
    compare = '    compare: {url: "{url}", metrics: [e2e_p50], max_increase: 9, blocks: 16}\n'
    project.config(text + compare)
    done = project.run("-m", "load")
    assert done.code == 0, done.out
    found = summary(done)
    assert found["judged"] == 80
    assert found["intended"] == 160
    assert found["comparison"]["kind"] == "interleaved"


def test_the_highest_rate_is_searched(project: Project) -> None:
    project.config("""
environments: {local: {url: "{url}"}}
load:
  most:
    find: max_rate
    rate: 30
    max_rate: 60
    min_rate: 20
    duration: 6
    max_tokens: 4
    self_check: 0
    max_dispatch_lag: 2
    confirm: true
    objectives: ["e2e_p50 <= 2", "error_rate <= 10%"]
""")
    done = project.run("-m", "load")
    assert done.verdicts() == {"load::most::max_rate": "PASS"}, done.out
    found = summary(done, "most")["capacity"]
    assert [probe["rate"] for probe in found["probes"]] == [30, 60]
    assert found["low"] == 60
    assert found["high"] is None
    assert "the search ends at max_rate 60/s" in found["reason"]
    assert found["reason"].endswith("; runs to confirm it: 54/s hold")
    (run,) = found["confirmations"]
    assert (run["rate"], run["expected"], run["verdict"]) == (54, "PASS", "PASS")
    assert run["n"] == 324, "it took its whole time"


def test_no_secret_reaches_a_record_or_a_report(project: Project) -> None:
    secret = "sk-live-0123456789abcdef"

    def respond(request: bytes, _number: int) -> Iterator[Piece]:
        if b"GET /" in request:
            yield as_json({"data": [{"id": "m"}]})
        key = request.split(b"uthorization: Bearer ")[1].split(b"\r\n")[0].decode()
        text = f"{'x' * 180} {key} and {key}"
        yield as_json({"error": {"message": text}}, "401 Unauthorized", f"x-version: {key}")

    with RawServer(respond) as server:
        project.config(
            """
service: {model: m, api_key: "${KEY}", version_header: x-version}
smoke: {checks: []}
environments: {local: {url: "URL"}}
load:
  steady: {rate: 20, duration: 1, self_check: 0, max_dispatch_lag: 2, streamed: 0,
           parameters: {user: "${KEY}"}, objectives: ["e2e_p50 <= 5"]}
""".replace("URL", server.url)
        )
        done = project.run("-m", "load", env={"KEY": secret})
    assert done.code == 1, done.out
    assert summary(done)["classes"] == {"http_4xx": 20}
    folder = done.reports[0].parent
    records = list(read_ledger(folder / "records/load/steady/ledger.jsonl.zst"))
    texts = [done.out, json.dumps(records)]
    texts += [path.read_text() for path in folder.rglob("*") if path.suffix in (".json", ".html")]
    assert len(texts) > 4
    for text in texts:
        assert secret[:12] not in text


def test_two_files_with_a_run_of_one_name_are_judged_each_by_its_own(project: Project) -> None:
    good, bad = STEADY % '"error_rate <= 10%"', STEADY % '"e2e_p50 <= 0.01 ms"'
    project.config(good)
    second = project.write("second/llmdeploy.yaml", bad.replace("{url}", project.url))
    third = project.write("third/llmdeploy.yaml", good.replace("{url}", project.url))
    files = ["llmdeploy.yaml", str(second), str(third)]
    done = project.run("-m", "load", *files)
    assert (done.code, counted(done)) == (1, {"passed": 2, "failed": 1}), done.out
    folder = done.reports[0].parent / "records" / "load"
    assert len(list(folder.glob("*/ledger.jsonl.zst"))) == 3


def test_a_search_that_finds_no_rate_says_so(project: Project) -> None:
    project.config("""
environments: {local: {url: "{url}"}}
load:
  none:
    find: max_rate
    rate: 200
    min_rate: 1
    duration: 6
    max_tokens: 4
    self_check: 0
    max_dispatch_lag: 2
    objectives: ["e2e_p50 <= 0.01 ms"]
""")
    done = project.run("-m", "load")
    assert (done.code, counted(done)) == (1, {"failed": 1}), done.out
    assert "the objectives were missed at" in done.out
    assert summary(done, "none")["capacity"]["rate"] is None


OWN_TEST = """
import pytest

SECTION = {"rate": 30, "duration": 2, "max_tokens": 3, "self_check": 0, "max_dispatch_lag": 2}

@pytest.mark.load
@pytest.mark.parametrize("objective", ["e2e_p50 <= 5 s", "e2e_p50 <= 0.1 ms"])
def test_load(llm_load, objective):
    summary = llm_load.check({**SECTION, "objectives": [objective]})
    assert summary["classes"] == {"ok": 60}

@pytest.mark.load
def test_broken(llm_load):
    llm_load.check({**SECTION, "objectives": ["ttft_p95 >= 1"]})
"""


def test_a_test_of_the_users_own_puts_load_on_the_service(project: Project) -> None:
    project.config('environments: {local: {url: "{url}"}}\n')
    project.write("test_own.py", OWN_TEST)
    done = project.run("test_own.py")
    assert (done.code, counted(done)) == (1, {"passed": 1, "failed": 1, "error": 1}), done.out
    assert "e2e_p50 <= 0.0001 is missed" in done.out
    assert "'ttft' takes <=, not >=" in done.out
