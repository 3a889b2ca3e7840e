"""A gate of many cases from the pytest command to its exit, beside the floor of the arithmetic.

``python bench/gates.py [CASES] [CONCURRENCY] [SECONDS]``
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from common import mock_model, seen, table, timed

FLOOR_CLIENT = """
import asyncio, sys, aiohttp
async def main(url, cases, concurrency):
    connector = aiohttp.TCPConnector(limit=concurrency)
    body = {"model": "mock", "messages": [{"role": "user", "content": "capital of France?"}]}
    async with aiohttp.ClientSession(connector=connector) as session:
        slots = asyncio.Semaphore(concurrency)
        async def ask():
            async with slots, session.post(url + "/v1/chat/completions", json=body) as response:
                assert "Paris" in (await response.json())["choices"][0]["message"]["content"]
        await asyncio.gather(*(ask() for _ in range(cases)))
asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
"""
CONFIG = """
service: {{model: mock}}
environments: {{local: {{url: "{url}"}}}}
health: {{checks: []}}
smoke: {{checks: []}}
gates:
  many:
    cases: cases.jsonl
    prompt: "What is the capital of France? ({{{{ n }}}})"
    assert: ["icontains: paris", "word-count: 1"]
    concurrency: {concurrency}
"""


def main(cases: int = 1000, concurrency: int = 50, delay: float = 0.2) -> None:
    """Print the table."""
    ideal = cases * delay / concurrency
    rows: list[list[object]] = [["arithmetic", f"{ideal:.1f}", "1.00", "", "", "", ""]]
    variants = {
        "raw aiohttp, no test runner": None,
        "pytest -m gates": [],
        "pytest -m gates -n 2": ["-n", "2"],
    }
    for name, arguments in variants.items():
        with mock_model(delay) as url, tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            (root / "pytest.ini").write_text("[pytest]\n")
            (root / "llmdeploy.yaml").write_text(CONFIG.format(url=url, concurrency=concurrency))
            lines = (f'{{"id": "c{n}", "vars": {{"n": {n}}}}}' for n in range(cases))
            (root / "cases.jsonl").write_text("\n".join(lines))
            if arguments is None:
                command = [sys.executable, "-c", FLOOR_CLIENT, url, str(cases), str(concurrency)]
            else:
                command = [sys.executable, "-m", "pytest", "-q", "-m", "gates", *arguments]
            done = timed(command, root)
            assert arguments is None or f"{cases + 1} passed" in done.out, done.out[-2000:]
            saw = seen(url)
            assert saw["total"] == cases, saw
            figures = (f"{done.wall:.1f}", f"{done.wall / ideal:.2f}", f"{saw['span']:.1f}")
            rows.append([name, *figures, saw["peak"], f"{done.cpu:.1f}", f"{done.memory_mb:.0f}"])
    print(f"\n{cases} cases, {concurrency} in flight, {delay * 1000:.0f} ms an answer\n")
    table(["", "wall s", "x floor", "asking s", "peak in flight", "CPU s", "MB"], rows)


if __name__ == "__main__":
    numbers = sys.argv[1:]
    main(*(kind(text) for kind, text in zip((int, int, float), numbers, strict=False)))
