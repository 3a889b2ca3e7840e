"""The documentation against the code: examples load, links lead somewhere, nothing is left out."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from pytest_llmdeploy import commands, hookspecs, options, plugin
from pytest_llmdeploy.config.loader import load_config
from pytest_llmdeploy.config.models import SMOKE_KINDS
from pytest_llmdeploy.config.yaml_reader import read_yaml
from pytest_llmdeploy.gates.assertions import AssertionRegistry
from pytest_llmdeploy.gates.cases import load_cases
from pytest_llmdeploy.markers import MARKERS
from pytest_llmdeploy.reports import result
from pytest_llmdeploy.reports.json_report import report
from pytest_llmdeploy.verdicts import Verdict

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
TOP_PAGES = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")
PAGES = [*(ROOT / name for name in TOP_PAGES), *sorted(DOCS.glob("*.md"))]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


class Example(NamedTuple):
    """One fenced block."""

    place: str
    text: str


def examples(language: str) -> Iterator[Example]:
    """Yield the blocks of a language, each with the page and line where it begins."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in _FENCE.finditer(text):
            if block[1] == language:
                line = text.count("\n", 0, block.start(2)) + 1
                yield Example(f"{page.name}:{line}", block[2])


def prose(page: Path) -> str:
    """Return the page without its examples."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """Return the names by which links reach the page's headings."""
    headings = _HEADING.findall(prose(page))
    return {re.sub(r"[^\w\- ]", "", text.lower()).strip().replace(" ", "-") for text in headings}


def named(page: str) -> set[str]:
    """Return what a page of docs names in code marks, in words and whole."""
    spans = re.findall(r"`([^`\n]+)`", prose(DOCS / page))
    return {*spans, *(word for span in spans for word in span.split())}


FILES = [example for example in examples("yaml") if re.search(r"(?m)^environments:", example.text)]
SNIPPETS = list(examples("python"))


@pytest.mark.parametrize("example", FILES, ids=lambda example: str(example.place))
def test_an_example_file_loads_in_each_environment(example: Example, tmp_path: Path) -> None:
    path = tmp_path / "llmdeploy.yaml"
    path.write_text(example.text, encoding="utf-8")
    variables = dict.fromkeys(re.findall(r"\$\{(\w+)\}", example.text), "of-the-environment")
    for environment in read_yaml(path, 1 << 20).data["environments"]:
        loaded = load_config(path, environment, variables)
        for name, suite in loaded.gates.items():
            if suite.cases and not any(isinstance(case, str) for case in suite.cases):
                assert load_cases(name, suite, tmp_path, loaded.where)


@pytest.mark.parametrize("example", SNIPPETS, ids=lambda example: str(example.place))
def test_an_example_in_python_compiles(example: Example) -> None:
    compile(example.text, example.place, "exec")


def test_there_are_examples() -> None:
    assert len(FILES) >= 5
    assert len(SNIPPETS) >= 5


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.name))
def test_relative_links_lead_to_a_page_and_a_heading(page: Path) -> None:
    for link in _LINK.findall(prose(page)):
        if link.startswith(("https://", "http://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.is_file(), link
        assert page.parent != DOCS or target.parent == DOCS, f"the site would not have {link}"
        assert not anchor or anchor in anchors(target), link


def test_the_site_has_each_page_once() -> None:
    def files(entries: list[dict[str, object]]) -> Iterator[str]:
        for entry in entries:
            for value in entry.values():
                yield from files(value) if isinstance(value, list) else [str(value)]

    site = read_yaml(ROOT / "mkdocs.yml", 1 << 20).data
    assert site["strict"] is True
    pages = {page.name for page in DOCS.glob("*.md")}
    assert sorted(files(site["nav"])) == sorted(pages)
    assert pages - {"index.md"} <= set(_LINK.findall(prose(DOCS / "index.md")))


def test_each_option_and_ini_key_of_pytest_is_named() -> None:
    parser = pytest.Parser(_ispytest=True)
    options.add_options(parser)
    options.add_env_option(parser)
    group = parser.getgroup("llmdeploy")
    ours = {name for option in group.options for name in option.names()}
    assert {"--env", "--llmdeploy-config"} <= ours
    assert ours <= named("getting-started.md")
    assert options.ENVIRONMENT_INI in named("getting-started.md")
    assert options.ENVIRONMENT_VARIABLE in named("getting-started.md")


def test_each_command_and_its_options_are_named() -> None:
    (subparsers,) = (
        action
        for action in commands._parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    ours = {f"llmdeploy {name}" for name in subparsers.choices}
    for parser in subparsers.choices.values():
        ours |= {name for name in parser._option_string_actions if name not in {"-h", "--help"}}
    assert {"llmdeploy init", "--url"} <= ours
    assert ours <= named("getting-started.md")


def test_each_marker_fixture_and_hook_is_named() -> None:
    page = "fixtures-and-hooks.md"
    hooks = {name for name in vars(hookspecs) if name.startswith("pytest_llmdeploy_")}
    assert hooks
    headed = set(_HEADING.findall(prose(DOCS / page)))
    assert {*hooks, *plugin.__all__} <= headed
    assert set(MARKERS) <= named(page)


def test_each_exit_code_and_verdict_has_a_row() -> None:
    text = prose(DOCS / "verdicts-and-exit-codes.md")
    codes = {*map(int, pytest.ExitCode), *result._EXIT_CODES.values()}
    rows = re.findall(r"^\| (\d+) \|", text, re.MULTILINE)
    assert codes <= set(map(int, rows))
    verdicts = re.findall(r"^\| \*\*(\w+)\*\* \|", text, re.MULTILINE)
    assert verdicts == [str(verdict) for verdict in Verdict]


def test_each_field_of_the_report_is_named(tmp_path: Path) -> None:
    written = report(
        result.RunResult(
            run_id="1",
            output=tmp_path,
            started=0.0,
            duration=0.0,
            events=(),
            exit_code=5,
            interrupted=False,
            others_failed=False,
            not_collected=False,
        )
    )
    assert {*written, *written["run"]} <= named("verdicts-and-exit-codes.md") | {"id"}


def test_each_kind_of_smoke_check_and_assertion_has_a_row() -> None:
    def first_cells(page: str) -> set[str]:
        cells = re.findall(r"^\| ([^|]+) \|", prose(DOCS / page), re.MULTILINE)
        return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}

    assert set(SMOKE_KINDS) <= first_cells("health-and-smoke.md")
    assert set(AssertionRegistry().names) <= first_cells("assertions.md") | first_cells("judges.md")
