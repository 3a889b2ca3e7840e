"""Every broken case file says what is wrong with it, and where: whole messages."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_llmdeploy.errors import ConfigError
from tests.unit.gates.helpers import load

BROKEN: list[tuple[str, bytes, list[str]]] = [
    (
        "empty.json",
        b"",
        [('empty.json:1: expected a list of cases or {"cases": [...]}, found an empty file')],
    ),
    ("noresult.json", (b"[]"), [("noresult.json: the file holds no case")]),
    ("emptyobj.json", (b"{}"), [("emptyobj.json: the file holds no case")]),
    ("c.json", (b'{"case": []}'), [("c.json:1: unknown key 'case', did you mean 'cases'?")]),
    ("c.json", (b'{"cases": [], "cases": []}'), [("c.json:1: duplicate key 'cases'")]),
    (
        "c.json",
        (b'"text"'),
        [('c.json:1: expected a list of cases or {"cases": [...]}, found something else')],
    ),
    (
        "c.json",
        (b'[\n{"id": "a",\n "assert": ["equals: x"]}\n{}]'),
        [("c.json:4: not JSON: expected ',', found '{'")],
    ),
    ("c.json", (b'[{"id": 1, "id": 2}]'), [("c.json:1: duplicate key 'id'")]),
    ("c.json", (b'[\n{"weight": NaN}]'), [("c.json:2: NaN is not JSON")]),
    ("c.json", (b"[] []"), [("c.json:1: not JSON: something follows the value's end")]),
    ("c.json", (b'[{"id": "\\ud800"}]'), [("c.json:1: an escape stands for half a character")]),
    ("c.json", (b"[1e999]"), [("c.json:1: the number 1e999 is too large")]),
    ("c.json", b"[" + b"9" * 5000 + b"]", [("c.json:1: a number of 5000 digits")]),
    ("c.json", b"[" * 100000, [("c.json:1: nested too deeply")]),
    ("c.json", (b"[3]"), [("c.json:1: a case is a mapping with vars, prompt and assert, got 3")]),
    ("c.json", (b'[{"id": "a"'), [("c.json:1: not JSON: expecting ',' delimiter (column 12)")]),
    ("c.jsonl", (b"\n\n"), [("c.jsonl: the file holds no case")]),
    (
        "c.jsonl",
        (b'{"assert": ["equals: x"]}\n\n[1]\n'),
        [("c.jsonl:3: a case is a mapping with vars, prompt and assert, got a list")],
    ),
    (
        "c.jsonl",
        (b'{"assert": ["equals: x"]}\n{"assert": }\n"x"\n{} {}'),
        [
            ("c.jsonl:2: not JSON: expecting value (column 12)"),
            ("c.jsonl:3: a case is a mapping with vars, prompt and assert, got 'x'"),
            ("c.jsonl:4: not JSON: something follows the value's end"),
        ],
    ),
    (
        "c.jsonl",
        (b'{"assrt": ["equals: x"]}'),
        [("c.jsonl:1: assrt: unknown key 'assrt', did you mean 'assert'?")],
    ),
    ("c.jsonl", (b"\xff\xfe"), [("c.jsonl:1: not UTF-8: byte 0xff at position 1 of the line")]),
    (
        "c.jsonl",
        (b'{"a": "\x00"}'),
        [("c.jsonl:1: the control character U+0000 cannot stand here")],
    ),
    (
        "c.jsonl",
        (b'{"assert": ["equals: x"], "weight": 0, "threshold": 0, "repeats": 0}'),
        [
            ("c.jsonl:1: repeats: must be 1 to 1000, got 0"),
            ("c.jsonl:1: threshold: must be above 0: a threshold of 0 would always pass"),
            ("c.jsonl:1: weight: must be above 0: a weight of 0 would not count"),
        ],
    ),
    (
        "c.jsonl",
        (
            b'{"assert": ["equals: x"], "weight": "2", "threshold": 1.5, "'
            b'repeats": 1.5, "tags": [1], "vars": [], "id": [], "prompt": '
            b"3}"
        ),
        [
            ("c.jsonl:1: id: expected text, got a list"),
            ("c.jsonl:1: prompt: expected a list of messages, got 3"),
            ("c.jsonl:1: repeats: expected a whole number, got 1.5"),
            ("c.jsonl:1: tags: a tag must be text, got 1"),
            ("c.jsonl:1: threshold: must be above 0 and at most 1, got 1.5"),
            ("c.jsonl:1: vars: expected a mapping, got a list"),
            ("c.jsonl:1: weight: expected a number, got '2'"),
        ],
    ),
    (
        "c.jsonl",
        (
            b'{"assert": ["equals: x"], "weight": true, "threshold": -1, "'
            b'repeats": 2000, "tags": ["a", " "], "id": "gate", "prompt": '
            b'" "}'
        ),
        [
            ("c.jsonl:1: id: 'gate' is the name of the suite's own item"),
            ("c.jsonl:1: prompt: the prompt is empty"),
            ("c.jsonl:1: repeats: must be 1 to 1000, got 2000"),
            ("c.jsonl:1: tags: a tag is empty"),
            ("c.jsonl:1: threshold: must be above 0 and at most 1, got -1"),
            ("c.jsonl:1: weight: expected a number, got true"),
        ],
    ),
    (
        "c.jsonl",
        (
            b'{"assert": ["equals: x"], "repeats": 2, "k_of_n": 3}\n'
            b'{"assert": ["equals: x"], "k_of_n": 2}\n'
            b'{"assert": ["equals: x"], "k_of_n": 0}\n'
            b'{"assert": ["equals: x"], "k_of_n": true}'
        ),
        [
            ("c.jsonl:1: k_of_n: 3 of 2 answers can never pass: ask more often (repeats)"),
            ("c.jsonl:2: k_of_n: 2 of 1 answers can never pass: ask more often (repeats)"),
            ("c.jsonl:3: k_of_n: must be at least 1, got 0"),
            ("c.jsonl:4: k_of_n: expected a whole number, got true"),
        ],
    ),
    (
        "c.jsonl",
        (b'{"assert": ["equals: x"], "id": "::", "prompt": {"file": "x"}}'),
        [
            ("c.jsonl:1: id: '::' has nothing that can name a test"),
            (
                "c.jsonl:1: prompt: a case's prompt is a text or a list of messages; {file:"
                " ...} is the suite's"
            ),
        ],
    ),
    (
        "c.jsonl",
        (b'{"assert": ["equals: x"], "prompt": [{"content": "x"}]}'),
        [("c.jsonl:1: prompt: message 1 has no role")],
    ),
    (
        "c.jsonl",
        (b'{"assert": 3}\n{"assert": [3]}\n{"assert": []}\n{}'),
        [
            ("c.jsonl:1: assert: expected a list of assertions, got 3"),
            (
                "c.jsonl:2: assert[0]: an assertion is a text or a mapping, not 3: write"
                " 'type: value', such as 'icontains: Paris'"
            ),
            ("c.jsonl:3: the case has no assertion: it could never fail"),
            ("c.jsonl:4: the case has no assertion: it could never fail"),
        ],
    ),
    (
        "c.jsonl",
        (
            b'{"assert": ["icontain: x", "contains:", "Paris", "latency", '
            b'"regex: (", "word-count: 3..1"]}'
        ),
        [
            (
                "c.jsonl:1: assert[0]: there is no assertion type 'icontain', did you mean"
                " 'icontains'?"
            ),
            (
                "c.jsonl:1: assert[1]: contains: the value is empty, and every answer"
                " contains the empty text"
            ),
            (
                "c.jsonl:1: assert[2]: there is no assertion type 'Paris': write 'type: value',"
                " such as 'icontains: Paris'; docs/assertions.md has every type"
            ),
            (
                "c.jsonl:1: assert[3]: latency: it needs a number of seconds above 0, such"
                " as 'latency: 2.5'"
            ),
            ('c.jsonl:1: assert[4]: regex: the pattern "(" is wrong: missing )'),
            (
                "c.jsonl:1: assert[5]: word-count: min 3 is above max 1: no answer could"
                " have so many words"
            ),
        ],
    ),
    (
        "c.jsonl",
        (
            b'{"assert": [{"type": "equals", "vlue": 1}, {"equals": "x", "'
            b'weight": 0}, {"value": 1}, {"type": "is-json", "value": {"ty'
            b'pe": "objct"}}]}'
        ),
        [
            (
                "c.jsonl:1: assert[0]: the assertion has an unknown key 'vlue', did you"
                " mean 'value'?"
            ),
            ("c.jsonl:1: assert[1]: equals: weight must be a number above 0, got 0"),
            (
                "c.jsonl:1: assert[2]: the assertion has no type: write 'type: value', such"
                " as 'icontains: Paris'"
            ),
            (
                "c.jsonl:1: assert[3]: is-json: the JSON Schema is wrong: at $.type:"
                " 'objct' is not valid under any of the given schemas"
            ),
        ],
    ),
    (
        "c.jsonl",
        (b'{"id": "a", "assert": ["equals: x"]}\n{"id": "a", "assert": ["equals: x"]}'),
        [("c.jsonl:2: the id 'a' is taken by the case of c.jsonl:1")],
    ),
    (
        "c.jsonl",
        (b'{"assert": ["equals: {{ capitl }}"], "vars": {"capital": "Paris"}}'),
        [
            (
                'c.jsonl:1: assert[0]: the template "equals: {{ capitl }}" needs the'
                " variable 'capitl' of the case, did you mean 'capital'?"
            )
        ],
    ),
    (
        "c.jsonl",
        (b'{"assert": ["equals: {{ capital"], "vars": {"capital": "Paris"}}'),
        [
            (
                'c.jsonl:1: assert[0]: the template "equals: {{ capital" is broken on its'
                " line 1: unexpected end of template, expected 'end of print statement'."
            )
        ],
    ),
    ("c.csv", b"", [("c.csv: the file is empty: it needs a header")]),
    ("c.csv", (b"city,__expected\n"), [("c.csv: the file holds no case")]),
    (
        "c.csv",
        (b"city,__expected\nParis\nRome,b,c\n"),
        [
            ("c.csv:2: cells in this row: 1, in the header: 2"),
            ("c.csv:3: cells in this row: 3, in the header: 2"),
        ],
    ),
    (
        "c.csv",
        (b"city,city,,__expcted\na,b,c,d\n"),
        [
            ("c.csv:1: column 3 has no name"),
            ("c.csv:1: the column 'city' is there twice"),
            ("c.csv:1: unknown column '__expcted', did you mean '__expected'?"),
        ],
    ),
    (
        "c.csv",
        (b"city;__expected\nParis;x\n"),
        [("c.csv:1: the only column is 'city;__expected': columns are separated by commas")],
    ),
    ("c.csv", (b'city,__expected\n"Paris,x\n'), [("c.csv:2: not CSV: unexpected end of data")]),
    ("c.csv", (b'city,__expected\n"Pa"ris,x\n'), [("c.csv:2: not CSV: ',' expected after '\"'")]),
    (
        "c.csv",
        (b"city,__expected,__weight,__repeats\nParis,x,heavy,1.5\n"),
        [
            ("c.csv:2: __repeats: expected a whole number, got '1.5'"),
            ("c.csv:2: __weight: expected a number, got 'heavy'"),
        ],
    ),
    (
        "c.csv",
        (b"city,__expected,__weight,__threshold\nParis,x,nan,0\n"),
        [
            ("c.csv:2: __threshold: must be above 0: a threshold of 0 would always pass"),
            ("c.csv:2: __weight: must be above 0 and finite, got nan"),
        ],
    ),
    ("c.csv", (b"city\nParis\n"), [("c.csv:2: the case has no assertion: it could never fail")]),
    (
        "c.csv",
        (b"city,__expected,__expected2\nParis,x,contains:\n"),
        [
            (
                "c.csv:2: __expected2: contains: the value is empty, and every answer"
                " contains the empty text"
            )
        ],
    ),
    (
        "c.csv",
        b"a,__expected\n" + b"x" * 140000 + b",y\n",
        [
            (
                "c.csv:2: not CSV: field larger than field limit (131072) (JSON Lines has"
                " no such limit)"
            )
        ],
    ),
    (
        "c.yaml",
        (b"cases:\n- id: a\n  asert: x\n"),
        [("c.yaml:3: asert: unknown key 'asert', did you mean 'assert'?")],
    ),
    ("c.yaml", (b"case: []\n"), [("c.yaml:1: unknown key 'case', did you mean 'cases'?")]),
    ("c.yaml", (b"text\n"), [("c.yaml:1: expected a list of cases, got 'text'")]),
    (
        "c.yaml",
        (b"- id: a\n  assert:\n  - equals: x\n  - contains: 1.5\n"),
        [("c.yaml:4: assert[1]: contains: the value must be a text, got 1.5: put it in quotes")],
    ),
    ("c.yaml", (b"[]\n"), [("c.yaml: the file holds no case")]),
    (
        "c.yaml",
        (b"- id: a\n  weight: .nan\n  assert: 'equals: x'\n"),
        [("c.yaml:2: weight: must be above 0 and finite, got nan")],
    ),
    (
        "c.txt",
        (b"x"),
        [
            (
                "c.txt: files of cases are .json, .jsonl, .ndjson, .csv, .yaml, .yml;"
                " '.txt' is none of them"
            )
        ],
    ),
    (
        "c",
        (b"x"),
        [("c: files of cases are .json, .jsonl, .ndjson, .csv, .yaml, .yml; 'c' is none of them")],
    ),
]


@pytest.mark.parametrize(
    ("name", "content", "messages"), BROKEN, ids=[f"{i}-{row[0]}" for i, row in enumerate(BROKEN)]
)
def test_broken_file(
    name: str,
    content: bytes,
    messages: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, cases=name)
    assert str(caught.value).split("\n") == messages


PLACE = "llmdeploy.yaml:4: gates.capitals.cases[0]: "


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("none.csv", PLACE + "the file none.csv does not exist"),
        ("sub/*.csv", PLACE + "the pattern sub/*.csv matches no file"),
        ("sub", PLACE + "sub is a folder; name its files, as in sub/*.jsonl"),
        ("a\0b", PLACE + "a path cannot hold NUL"),
        ({"id": "x"}, PLACE + "the case has no assertion: it could never fail"),
        (
            {"assert": "equals: x", "wieght": 1},
            "llmdeploy.yaml:5: gates.capitals.cases[0].wieght: unknown key 'wieght',"
            " did you mean 'weight'?",
        ),
    ],
)
def test_broken_entry(entry: object, message: str, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, cases=[entry])
    assert str(caught.value) == message


def test_every_broken_file_and_the_suite_itself_are_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text("x\n1,2\n")
    Path("b.json").write_text("[1]")
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, cases=["a.csv", "b.json", "c.yml"], checks=["contain: x"])
    assert str(caught.value).split("\n") == [
        "a.csv:2: cells in this row: 2, in the header: 1",
        "b.json:1: a case is a mapping with vars, prompt and assert, got 1",
        "llmdeploy.yaml:4: gates.capitals.assert[0]: there is no assertion type 'contain',"
        " did you mean 'contains'?",
        "llmdeploy.yaml:4: gates.capitals.cases[2]: the file c.yml does not exist",
    ]


def test_a_wrong_column_does_not_flood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text("x,__expected,__weight\n" + "1,2,0\n" * 30)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, cases="a.csv")
    lines = str(caught.value).split("\n")
    assert len(lines) == 21
    assert lines[0] == "a.csv: 30 problems; these are the first 20"


def test_a_file_that_is_too_large_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, size in (("a.jsonl", 256 << 20), ("a.yaml", 4 << 20)):
        with Path(name).open("wb") as file:
            file.truncate(size + 1)  # sparse: takes no space
    messages = []
    for name in ("a.jsonl", "a.yaml"):
        with pytest.raises(ConfigError) as caught:
            load(tmp_path, cases=name)
        messages.append(str(caught.value))
    assert messages == [
        "a.jsonl: the file is larger than 256 MiB",
        "a.yaml: the file is larger than 4 MiB",
    ]


def test_a_case_without_any_prompt(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, cases={"assert": "equals: x"}, prompt=None)
    assert str(caught.value) == PLACE + "the case has no prompt, and its suite has none either"
