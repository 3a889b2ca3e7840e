"""Without any extra: what needs none works, and what needs one says which."""

from __future__ import annotations

from tests.plugin.conftest import Project

WITHOUT = """
import sys

for name in (
    "openai aiohttp jinja2 jsonschema regex locust gevent zstandard orjson starlette uvicorn"
    " prometheus_client prometheus_api_client kubernetes xllamacpp sqlglot py_mini_racer model2vec"
).split():
    sys.modules[name] = None
"""
FILE = """
service: {model: scripted}
environments:
  local: {url: "{url}"}
smoke: {checks: [models]}
gates:
  echo: {cases: [{prompt: "Say exactly: hi", assert: ["equals: hi"]}]}
load:
  steady: {rate: 5, duration: 1}
"""


def test_what_needs_no_extra_works_and_what_does_says_which(project: Project) -> None:
    project.config(FILE)
    project.write("conftest.py", WITHOUT)
    done = project.run("-m", "health or smoke")
    assert done.code == 0, done.out
    assert set(done.verdicts().values()) == {"PASS"}
    done = project.run("-m", "gates or load")
    assert done.code == 10, done.out
    assert "pip install 'pytest-llmdeploy[gates]'" in done.out
    assert "pip install 'pytest-llmdeploy[load]'" in done.out
