"""Without the packages of the extra, the message says what to install."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pytest_llmdeploy.errors import MissingExtraError
from pytest_llmdeploy.gates import templates
from pytest_llmdeploy.gates.assertions import AssertionRegistry


@pytest.mark.parametrize(
    ("module", "raw"),
    [("regex", "regex: only-here"), ("jsonschema", {"is-json": {"title": "only here"}})],
)
def test_assertions(module: str, raw: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError) as caught:
        AssertionRegistry().parse(raw, "c:1")
    assert str(caught.value) == (
        f"quality gates needs the package '{module}', which is not installed:"
        " pip install 'pytest-llmdeploy[gates]'"
    )


def test_templates(monkeypatch: pytest.MonkeyPatch) -> None:
    templates._environment.cache_clear()
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtraError) as caught:
        templates.render_text("{{ only_here }}", {})
    assert str(caught.value) == (
        "quality gates needs the package 'jinja2', which is not installed:"
        " pip install 'pytest-llmdeploy[gates]'"
    )


def test_nothing_heavy_is_imported_before_it_is_used() -> None:
    code = (
        "import sys, pytest_llmdeploy.gates.prompts;"
        "print([m for m in ('jinja2', 'jsonschema', 'regex', 'openai') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.strip() == "[]"
