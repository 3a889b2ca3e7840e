"""Cases come out of every format alike, with ids that pytest can take."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pytest_llmdeploy.errors import ConfigError
from pytest_llmdeploy.gates.assertions import AssertionSpec
from pytest_llmdeploy.gates.case import Case, safe_id
from pytest_llmdeploy.gates.readers.formats import READERS
from tests.unit.gates.helpers import load

FRANCE = {
    "id": "france",
    "vars": {"country": "France"},
    "prompt": "Name it.",
    "assert": ["icontains: Paris"],
    "tags": ["eu", "capital"],
    "weight": 2.0,
    "threshold": 0.5,
    "repeats": 3,
    "k_of_n": 2,
}
YAML = """
cases:
- id: france
  vars: {country: France}
  prompt: Name it.
  assert:
  - icontains: Paris
  tags: eu, capital
  weight: 2
  threshold: 0.5
  repeats: 3
  k_of_n: 2
"""
CSV = (
    "__id,country,__prompt,__expected,__tags,__weight,__threshold,__repeats,__k_of_n\n"
    'france,France,Name it.,icontains: Paris,"eu, capital",2,0.5,3,2\n'
)


def singles(case: Case) -> list[AssertionSpec]:
    """Return the case's assertions, of which none is a set."""
    return [spec for spec in case.assertions if isinstance(spec, AssertionSpec)]


@pytest.mark.parametrize(
    ("name", "content", "lines"),
    [
        ("c.json", json.dumps([FRANCE]), (1, 1)),
        ("c.json", json.dumps({"cases": [FRANCE]}), (1, 1)),
        ("c.json", "[\n\n" + json.dumps(FRANCE) + "\n]\n", (3, 3)),
        ("c.jsonl", "\n" + json.dumps(FRANCE) + "\r\n", (2, 2)),
        ("c.ndjson", json.dumps(FRANCE), (1, 1)),
        ("c.csv", "\ufeff" + CSV, (2, 2)),
        ("c.csv", CSV.replace("\n", "\r\n"), (2, 2)),
        ("c.YAML", YAML, (3, 7)),
        ("c.yml", YAML.replace("cases:\n", ""), (2, 6)),
    ],
)
def test_formats_agree(
    name: str,
    content: str,
    lines: tuple[int, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_text(content, encoding="utf-8", newline="")
    (case,) = load(tmp_path, cases=name)
    assert (case.id, case.vars, case.prompt) == ("france", {"country": "France"}, "Name it.")
    assert (case.tags, case.weight, case.threshold) == (("eu", "capital"), 2.0, 0.5)
    assert (case.repeats, case.k_of_n) == (3, 2)
    assert case.source == f"{name}:{lines[0]}"
    (spec,) = singles(case)
    assert (spec.type, spec.value, spec.source) == ("icontains", "Paris", f"{name}:{lines[1]}")


def test_suite_assertions_come_first_and_take_the_case_s_variables(tmp_path: Path) -> None:
    cases = load(
        tmp_path,
        cases=[
            {"vars": {"capital": "Paris"}, "assert": ["latency: 2"]},
            {"vars": {"capital": "Rome"}},
        ],
        checks=["icontains: {{ capital }}", {"not-contains": "sorry"}],
    )
    assert [[(s.name, s.value) for s in singles(case)] for case in cases] == [
        [("icontains", "Paris"), ("not-contains", "sorry"), ("latency", "2")],
        [("icontains", "Rome"), ("not-contains", "sorry")],
    ]


def test_a_suite_assertion_that_one_case_cannot_fill_in(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(
            tmp_path,
            cases=[{"vars": {"capital": "Paris"}}, {"vars": {"captial": "Rome"}}],
            checks=["icontains: {{ capital }}"],
        )
    assert str(caught.value) == (
        "llmdeploy.yaml:4: gates.capitals.assert[0], for the case of llmdeploy.yaml:4: the"
        " template \"icontains: {{ capital }}\" needs the variable 'capital' of the case,"
        " did you mean 'captial'?"
    )


def test_csv_cells_without_a_type_are_the_answer_itself(tmp_path: Path) -> None:
    text = "__expected,__expected1,__expected2\nNote: a thing,,not-contains: b\n"
    (tmp_path / "c.csv").write_text(text)
    (case,) = load(tmp_path, cases="c.csv", prompt="x")
    assert [(s.name, s.value) for s in singles(case)] == [
        ("equals", "Note: a thing"),
        ("not-contains", "b"),
    ]


def test_lines_of_a_csv_with_line_breaks_in_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c.csv").write_text('x,__expected\n"a\nb",y\n\nc,z\n')
    cases = load(tmp_path, cases="c.csv")
    assert [(case.id, case.source) for case in cases] == [
        ("row-1", "c.csv:2"),
        ("row-2", "c.csv:5"),
    ]


def test_row_ids_carry_the_file_when_there_are_several(tmp_path: Path) -> None:
    for name in ("a/x.csv", "b/x.csv", "c/y.csv"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("x,__expected,__description\n1,2,\n3,4,named " + name[0])
    entries = ["*/*.csv", "c/y.csv", {"assert": "equals: x"}]
    assert [case.id for case in load(tmp_path, cases=entries)] == [
        "a-x.csv-row-1",
        "named a",
        "b-x.csv-row-1",
        "named b",
        "y-row-1",
        "named c",
        "row-3",
    ]


def test_files_outside_the_root_are_fine(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "x.csv").write_text("x,__expected\n1,2\n")
    for entry in ("../x.csv", "../*.csv", str(tmp_path / "x.csv"), str(tmp_path / "*.csv")):
        assert len(load(tmp_path / "root", cases=entry)) == 1


def test_a_file_name_with_glob_characters_is_itself(tmp_path: Path) -> None:
    (tmp_path / "x[1].csv").write_text("x,__expected\n1,2\n")
    assert len(load(tmp_path, cases="x[1].csv")) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("what's up?", "what's up?"),
        ("a::b[c]/d\\e\nf\tg", "a-b-c-d-e-f-g"),
        ("  Größe  東京 :", "Größe 東京"),
        ("x\u200by\x1b", "x-y"),
        ("x" * 80, "x" * 80),
        ("x" * 81, "x" * 71 + "-4d1f7bb8"),
    ],
)
def test_safe_id(text: str, expected: str) -> None:
    assert safe_id(text) == expected


@given(st.text())
def test_safe_ids_are_safe(text: str) -> None:
    made = safe_id(text)
    assert len(made) <= 80
    assert made.isprintable()
    assert not any(part in made for part in ("::", "[", "]", "/", "\n", "\\"))
    assert safe_id(made) == made


def test_ten_thousand_cases_load(tmp_path: Path) -> None:
    lines = (
        json.dumps({"id": f"c{n}", "vars": {"n": n}, "assert": [f"icontains: {n}", "latency: 2"]})
        for n in range(10_000)
    )
    (tmp_path / "c.jsonl").write_text("\n".join(lines))
    cases = load(tmp_path, cases="c.jsonl", checks=["not-is-refusal"])
    assert len(cases) == 10_000


JSONISH = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "vars", "assert", "weight", "type", "value", "prompt", "tags"]),
            inner,
            max_size=4,
        )
    ),
)
CONTENT = st.one_of(
    st.binary(),
    st.text().map(lambda text: text.encode("utf-8", "surrogatepass")),
    JSONISH.map(lambda value: json.dumps([{"assert": "equals: x"}, value]).encode()),
    JSONISH.map(lambda value: json.dumps({"assert": value, "vars": {"a": "b"}}).encode()),
    st.text(alphabet='a,"\r\n_;').map(lambda text: b"a,__expected\n" + text.encode()),
)


@pytest.mark.parametrize("suffix", sorted(READERS))
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80, deadline=None
)
@given(content=CONTENT)
@example(content=b'{"assert": {"equals": "x", "weight": 1' + b"0" * 400 + b"}}")
@example(content=b'{"assert": "equals: x", "weight": 1' + b"0" * 400 + b"}")
def test_any_bytes_are_cases_or_a_config_error(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"c{suffix}"
    path.write_bytes(content)
    try:
        cases = load(tmp_path, cases=path.name, prompt="x")
    except ConfigError:
        return
    assert cases
    assert all(case.assertions and case.id and case.weight > 0 for case in cases)
