from __future__ import annotations

import asyncio
import json
import math
import time
from pathlib import Path

from pytest_llmdeploy.reference.engines import Ending
from pytest_llmdeploy.reference.engines.scripted import Scripted
from pytest_llmdeploy.reference.settings import read_settings
from pytest_llmdeploy.reference.wire import ChatOrder, read_chat

FAST = ("--ttft", "0", "--token-interval", "0")


def _order(text: str, **fields: object) -> ChatOrder:
    body = {"messages": [{"role": "user", "content": text}], **fields}
    return read_chat(body, "scripted", 256)


def _ask(order: ChatOrder, *flags: str) -> tuple[str, Ending]:
    async def ask() -> tuple[str, Ending]:
        texts: list[str] = []
        async for item in Scripted(read_settings(flags, {})).generate(order):
            if isinstance(item, Ending):
                return "".join(texts), item
            texts += item
        raise AssertionError("no Ending came")

    return asyncio.run(ask())


def test_an_answer_follows_from_the_prompt() -> None:
    text, ending = _ask(_order("Hello there"), *FAST)
    assert (text, ending) == _ask(_order("Hello there"), *FAST)
    assert text != _ask(_order("Hello here"), *FAST)[0]
    assert len(text.split()) == 32
    assert ending == Ending("stop", 6, 32)


def test_echo_keeps_white_space() -> None:
    said = "  two\n\nlines, ünïcode \u00a0 "
    assert _ask(_order(f"Say exactly: {said}"), *FAST)[0] == said
    assert _ask(_order("Say exactly: "), *FAST) == ("", Ending("stop", 7, 0))


def test_answers_of_a_file_come_first(tmp_path: Path) -> None:
    file = tmp_path / "answers.json"
    file.write_text(json.dumps({"Say exactly: no": "yes"}))
    assert _ask(_order("Say exactly: no"), *FAST, "--answers", str(file))[0] == "yes"


def test_limits_and_stops_cut() -> None:
    order = _order("Say exactly: one two three four", max_tokens=2)
    assert _ask(order, *FAST) == ("one two", Ending("length", 10, 2))
    order = _order("Say exactly: one two three four", stop=["four", " three"])
    assert _ask(order, *FAST) == ("one two", Ending("stop", 10, 2))
    order = _order("Say exactly: one two", max_completion_tokens=2)
    assert _ask(order, *FAST) == ("one two", Ending("stop", 8, 2))


def test_lag_does_not_accumulate() -> None:
    """Hold the loop for a while in the midst: the tokens due meanwhile come at once, together."""

    async def batches() -> list[int]:
        flags = ["--ttft", "0", "--token-interval", "0.02", "--tokens", "20"]
        sizes: list[int] = []
        async for item in Scripted(read_settings(flags, {})).generate(_order("Hello")):
            if not isinstance(item, Ending):
                sizes.append(len(item))
            if len(sizes) == 2:
                time.sleep(0.2)  # noqa: ASYNC251 - a loop that is held is the case under test
        return sizes

    sizes = asyncio.run(batches())
    assert sum(sizes) == 20
    assert sizes[2] >= 9


def test_similar_texts_have_close_vectors() -> None:
    texts = ["The cat sat on the mat", "A cat sat on a mat", "Quarterly revenue grew by 4 %"]
    vectors, tokens = asyncio.run(Scripted(read_settings([], {})).embed(texts))
    assert tokens == 18
    assert all(math.isclose(math.hypot(*vector), 1) for vector in vectors)
    near, far = (sum(map(float.__mul__, vectors[0], vectors[n])) for n in (1, 2))
    assert near > 0.5 > 0.2 > far
