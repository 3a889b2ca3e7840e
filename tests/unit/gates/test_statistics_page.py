"""The page about statistics against the code: its picture and its table of case numbers."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import get_args

from pytest_llmdeploy.verdicts.proportions import Rule, smallest_n

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "statistics.md").read_text(encoding="utf-8")


def test_the_picture_is_what_its_script_draws() -> None:
    script = runpy.run_path(str(ROOT / "bench" / "gate_picture.py"))
    assert script["FILE"].read_text(encoding="utf-8") == script["picture"]()


def test_the_numbers_of_cases_are_right() -> None:
    for rule in get_args(Rule):
        (row,) = re.findall(rf"^\| {rule} \| (\d[\d |]*) \|$", PAGE, re.MULTILINE)
        limits = (0.8, 0.9, 0.95, 0.98, 0.99)
        assert [int(cell) for cell in row.split(" | ")] == [
            smallest_n(rule, 0.95, limit) for limit in limits
        ]
