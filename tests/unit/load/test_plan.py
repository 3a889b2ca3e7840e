"""From the file's section to traffic, with the files of prompts and arrivals that it names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_llmdeploy.config.load import LoadConfig, PromptsConfig
from pytest_llmdeploy.errors import ConfigError
from pytest_llmdeploy.load.plan import in_words, model_kind, read_prompts, read_trace, traffic_of
from pytest_llmdeploy.load.schedule import arrivals
from pytest_llmdeploy.load.spec import Step, Target, TrafficSpec, WorkerSpec
from tests.unit.load.records import answered, write_ledger

TARGET = Target("http://127.0.0.1:1/v1/chat/completions", {}, "m")


def compressed(content: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(content)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def traffic(root: Path, **keys: Any) -> TrafficSpec:
    return traffic_of(LoadConfig(**keys), [TARGET], root)


def complaint(root: Path, **keys: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        traffic(root, **keys)
    return str(caught.value)


@pytest.mark.parametrize(
    ("keys", "kind", "words"),
    [
        ({"rate": 20, "duration": 60}, "open loop", "poisson arrivals, 20/s for 60 s"),
        (
            {"steps": [{"rate": 2, "to": 10, "duration": 60}, {"rate": 10, "duration": 30}]},
            "open loop",
            "poisson arrivals, 2 to 10/s, 10/s for 90 s",
        ),
        (
            {"rate": 2.5, "arrivals": "gamma", "burstiness": 0.2, "duration": 9},
            "open loop",
            "gamma (shape 0.2) arrivals, 2.5/s for 9 s",
        ),
        ({}, "closed loop", "10 users, think time 0 s, for 300 s"),
        (
            {"users": 3, "think_time": 0.5, "duration": 9},
            "closed loop",
            "3 users, think time 0.5 s, for 9 s",
        ),
    ],
)
def test_traffic_in_words(root: Path, keys: dict[str, Any], kind: str, words: str) -> None:
    spec = traffic(root, **keys)
    assert (model_kind(spec), in_words(spec)) == (kind, words)


def test_every_key_reaches_the_generator(root: Path) -> None:
    spec = traffic(
        root,
        rate=5,
        arrivals="gamma",
        burstiness=0.3,
        duration=20,
        turns=3,
        think_time=0.25,
        seed=4,
        warmup=2,
        prompts={"words": 9, "shared_prefix": 0.5},
        max_tokens=[3, 9],
        long_stream_tokens=99,
        parameters={"temperature": 0},
        streamed=0.5,
        clients={"keep_alive": 2, "new_connection": 0, "long_stream": 1},
        timeouts={"connect": 1, "first_token": 2, "idle": 3, "total": 4},
        max_in_flight=7,
        drain=1,
        objectives=["goodput >= 90%"],
        good={"ttft": 1, "e2e": 3},
    )
    assert spec.steps == (Step(5, 5, 20),)
    assert (spec.arrivals, spec.burstiness, spec.seed, spec.warmup) == ("gamma", 0.3, 4, 2)
    assert (spec.turns, spec.think_time, spec.words, spec.shared_prefix) == (3, 0.25, 9, 0.5)
    assert (spec.output_tokens, spec.long_stream_tokens) == ((3, 9), 99)
    assert (spec.parameters, spec.streamed) == ({"temperature": 0}, 0.5)
    assert spec.clients == {"keep_alive": 2, "long_stream": 1}
    timeouts = spec.timeouts
    assert (timeouts.connect, timeouts.first_token, timeouts.idle, timeouts.total) == (1, 2, 3, 4)
    assert (spec.max_in_flight, spec.drain) == (7, 1)
    assert (spec.objectives, spec.good) == (("goodput >= 0.9",), {"ttft": 1, "e2e": 3})
    assert spec.block is None
    worker = WorkerSpec(
        traffic=spec, secrets=("key",), ledger="ledger", result="result", index=1, count=2
    )
    assert WorkerSpec.from_json(worker.to_json()) == worker


def test_two_versions_take_turns_in_blocks(root: Path) -> None:
    spec = traffic(root, rate=5, duration=60, compare={"url": "http://127.0.0.1:2", "blocks": 20})
    assert spec.block == 3
    both = TrafficSpec(targets=(TARGET, TARGET), steps=spec.steps, block=spec.block)
    assert [both.target_at(at) for at in (0, 2.9, 3, 6, 9, 12, 15)] == [0, 0, 1, 1, 0, 0, 1]


@pytest.mark.parametrize("suffix", ["txt", "md"])
def test_prompts_a_line_each(root: Path, suffix: str) -> None:
    file = root / f"prompts.{suffix}"
    file.write_bytes("\n  one \r\n\n\ttwo\u2028still two\n".encode())
    assert read_prompts(PromptsConfig(file=file.name), root) == ("  one ", "\ttwo\u2028still two")


def test_prompts_as_json_lines(root: Path) -> None:
    messages = [{"role": "user", "content": "b\u2028c"}]
    lines = [
        json.dumps({"prompt": "a"}),
        "",
        json.dumps({"messages": messages}, ensure_ascii=False),
    ]
    (root / "prompts.jsonl").write_text("\n".join(lines))
    assert read_prompts(PromptsConfig(file="prompts.jsonl"), root) == ("a", messages)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "p.jsonl: has no prompt"),
        (b"\n \n", "p.jsonl: has no prompt"),
        (
            b'{"prompt": "a"}\n{"prompt": 5}\n',
            "p.jsonl:2: expected 'prompt' (a text) or 'messages' (a list)",
        ),
        (b'{"messages": []}', "p.jsonl:1: expected 'prompt' (a text) or 'messages' (a list)"),
        (b'{"messages": ["a"]}', "p.jsonl:1: expected 'prompt' (a text) or 'messages' (a list)"),
        (b"[1]", "p.jsonl:1: expected an object"),
        (b"{", "p.jsonl:1: no JSON: Expecting property name enclosed in double quotes"),
        (b'{"a": ' * 100_000, "p.jsonl:1: no JSON: "),
        (b'{"prompt": "\xe9"}', "p.jsonl:1: not UTF-8: byte 0xe9 at position 13 of the line"),
    ],
)
def test_broken_prompts_are_told_with_their_line(root: Path, content: bytes, message: str) -> None:
    (root / "p.jsonl").write_bytes(content)
    assert complaint(root, prompts={"file": "p.jsonl"}).startswith(message)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"prompts": {"file": "x.txt"}}, "x.txt: there is no such file (prompts.file)"),
        ({"trace": "x.jsonl"}, "x.jsonl: there is no such file (trace)"),
        ({"locustfile": "x.py"}, "x.py: there is no such file (locustfile)"),
        ({"trace": "."}, "there is no such file (trace)"),
    ],
)
def test_files_that_are_not_there(root: Path, keys: dict[str, Any], message: str) -> None:
    assert complaint(root, **keys).endswith(message)


def test_a_trace_begins_with_its_first_arrival(root: Path) -> None:
    (root / "t.jsonl").write_text('{"at": 12.5}\n{"at": 10, "x": 1}\n\n{"timestamp": 11000}\n')
    assert read_trace(root / "t.jsonl") == (0.0, 1.0, 2.5)
    spec = traffic(root, trace="t.jsonl", warmup=1)
    assert spec.traffic_duration == 2.5
    assert in_words(spec) == "3 recorded arrivals for 2.5 s"
    assert list(arrivals(spec)) == [0.0, 1.0, 2.5]


def test_a_ledger_is_a_trace_of_its_first_turns(root: Path) -> None:
    records = [answered(0, 5.0, turn=0), answered(1, 4.0, turn=0), answered(0, 9.0, turn=1)]
    write_ledger(root / "ledger.jsonl.zst", records)
    assert read_trace(root / "ledger.jsonl.zst") == (0.0, 1.0)


ARRIVAL = "expected 'at' in seconds or 'timestamp' in milliseconds"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "t.jsonl: has no arrival"),
        (b'{"at": 1}\n{"at": -1}', f"t.jsonl:2: {ARRIVAL}"),
        (b'{"at": "1"}', f"t.jsonl:1: {ARRIVAL}"),
        (b'{"at": true}', f"t.jsonl:1: {ARRIVAL}"),
        (b'{"at": NaN}', f"t.jsonl:1: {ARRIVAL}"),
        (b'{"at": Infinity}', f"t.jsonl:1: {ARRIVAL}"),
        (b'{"at": 1e999}', f"t.jsonl:1: {ARRIVAL}"),
        (b'{"timestamp": 1' + b"0" * 400 + b"}", f"t.jsonl:1: {ARRIVAL}"),
        (b"at 5", "t.jsonl:1: no JSON: "),
        (b'{"at": 5}', "t.jsonl: its arrivals span 0 s, all of it warmup: nothing would be judged"),
        (
            b'{"at": 5}\n{"at": 7}',
            "t.jsonl: its arrivals span 2 s, all of it warmup: nothing would be judged",
        ),
    ],
)
def test_broken_traces_are_told_with_their_line(root: Path, content: bytes, message: str) -> None:
    (root / "t.jsonl").write_bytes(content)
    assert complaint(root, trace="t.jsonl", warmup=3).startswith(message)


@pytest.mark.parametrize(
    "content", [b"no ledger at all", b"", compressed(b"5\n"), compressed(b"{}\n")]
)
def test_a_file_that_is_no_ledger(root: Path, content: bytes) -> None:
    (root / "t.zst").write_bytes(content)
    said = complaint(root, trace="t.zst")
    assert said.startswith(("t.zst: no ledger of a load run: ", "t.zst: has no arrival"))


@settings(
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    content=st.binary(max_size=60)
    | st.lists(
        st.sampled_from(
            ['{"at": ', '{"prompt": "', "}", '"', "1", "e5", "\n", " ", "[", "]", "null", "\u2028"]
        )
    ).map(lambda parts: "".join(parts).encode()),
    suffix=st.sampled_from([".jsonl", ".txt", ".zst"]),
)
def test_any_file_is_taken_or_explained(root: Path, content: bytes, suffix: str) -> None:
    file = root / f"any{suffix}"
    file.write_bytes(content)
    found: list[Any] = []
    for read in (read_trace, lambda path: read_prompts(PromptsConfig(file=path.name), root)):
        try:
            found.append(read(file))
        except ConfigError as error:
            found.append(str(error))
    assert all(found), found
