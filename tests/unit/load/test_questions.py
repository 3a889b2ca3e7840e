"""Requests follow from the seed and their number alone."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_llmdeploy.load.questions import Question, Questions
from pytest_llmdeploy.load.spec import TrafficSpec


def questions(**changes: Any) -> Questions:
    return Questions(TrafficSpec(targets=(), **changes))


def text(question: Question) -> str:
    (message,) = question.messages
    assert message["role"] == "user"
    content: str = message["content"]
    return content


@settings(derandomize=True, database=None, deadline=None)
@given(
    number=st.integers(0, 10**6),
    turn=st.integers(0, 99),
    seed=st.integers(0, 10**6),
    shared=st.floats(0, 1),
    words=st.integers(1, 60),
)
def test_a_question_is_the_same_whoever_asks_it(
    number: int, turn: int, seed: int, shared: float, words: int
) -> None:
    make = {
        "seed": seed,
        "shared_prefix": shared,
        "words": words,
        "output_tokens": (3, 90),
        "streamed": 0.5,
        "clients": {"keep_alive": 2, "new_connection": 1, "long_stream": 1},
    }
    first = questions(**make)
    for other in range(3):
        first.question(other)  # what was asked before does not matter
    found = first.question(number, turn)
    assert found == questions(**make).question(number, turn)
    assert text(found)
    assert (3 <= found.max_tokens <= 90) or found.client == "long_stream"


def test_prompts_have_their_length_and_differ() -> None:
    made = questions(words=40)
    texts = [text(made.question(number)) for number in range(50)]
    assert {len(each.split()) for each in texts} == {40}
    assert len(set(texts)) == 50


def test_another_seed_asks_otherwise() -> None:
    """Prefix caches that an earlier run has filled do not help then."""
    first, second = (questions(seed=seed, shared_prefix=0.5) for seed in (0, 1))
    assert text(first.question(0)).split()[:10] != text(second.question(0)).split()[:10]


def test_a_shared_prefix_is_shared_and_the_rest_is_not() -> None:
    made = questions(words=40, shared_prefix=0.75)
    texts = [text(made.question(number)).split() for number in range(20)]
    assert len({tuple(words[:30]) for words in texts}) == 1
    assert len({tuple(words[30:]) for words in texts}) == 20
    assert {len(words) for words in texts} == {40}


def test_all_shared_is_one_prompt() -> None:
    made = questions(words=20, shared_prefix=1.0)
    assert len({text(made.question(number)) for number in range(5)}) == 1


def test_later_turns_do_not_repeat_the_prefix() -> None:
    made = questions(words=40, shared_prefix=0.5, turns=2)
    first, second = (text(made.question(7, turn)).split() for turn in (0, 1))
    assert (len(first), len(second)) == (40, 20)
    assert first[:20] != second


def test_prompts_of_a_file_come_in_a_seeded_order_each_as_often() -> None:
    prompts = tuple(f"prompt {n}" for n in range(5))
    made = questions(prompts=prompts)
    texts = [text(made.question(number)) for number in range(15)]
    assert Counter(texts) == dict.fromkeys(prompts, 3)
    assert texts[:5] == texts[5:10]
    orders = {
        tuple(text(questions(prompts=prompts, seed=s).question(n)) for n in range(5))
        for s in range(9)
    }
    assert len(orders) > 1


def test_a_prompt_may_be_a_list_of_messages() -> None:
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    assert questions(prompts=(messages,)).question(3).messages == messages


def test_clients_come_by_their_weights() -> None:
    """Of 4000 requests the share of one in four is off by 0.05 with a probability below 1e-11."""
    made = questions(
        clients={"keep_alive": 3, "long_stream": 1}, streamed=0.0, long_stream_tokens=9
    )
    found = [made.question(number) for number in range(4000)]
    share = sum(each.client == "long_stream" for each in found) / 4000
    assert share == pytest.approx(0.25, abs=0.05)
    assert {(each.stream, each.max_tokens) for each in found} == {(True, 9), (False, 64)}


def test_lengths_and_streams_are_drawn() -> None:
    """Of 4000 requests half of which stream, the share is off by 0.05 with less than 1e-9."""
    made = questions(output_tokens=(1, 8), streamed=0.5)
    found = [made.question(number) for number in range(4000)]
    assert {each.max_tokens for each in found} == set(range(1, 9))
    assert sum(each.stream for each in found) / 4000 == pytest.approx(0.5, abs=0.05)


def test_the_body_holds_what_was_said_and_the_files_parameters() -> None:
    options = {"continuous_usage_stats": True}
    made = questions(parameters={"temperature": 0, "stream_options": options})
    question = Question([{"role": "user", "content": "b"}], 20, stream=True, client="keep_alive")
    before = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "A"}]
    assert made.body(question, before, "m") == {
        "model": "m",
        "messages": [*before, {"role": "user", "content": "b"}],
        "max_tokens": 20,
        "stream": True,
        "temperature": 0,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    }
    plain = Question(question.messages, 20, stream=False, client="keep_alive")
    assert "stream_options" not in made.body(plain, (), "m")
