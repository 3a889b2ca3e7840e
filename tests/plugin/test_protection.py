"""A protected environment changes nothing that was not asked for, by name and with all it takes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmdeploy.config.models import READING_STAGES, STAGES, EnvironmentConfig
from pytest_llmdeploy.protection import MOST_NAMES, names_stage, refusal
from tests.plugin.conftest import Project

NEEDS_KEYWORDS = pytest.mark.skipif(
    pytest.version_tuple < (8, 3), reason="marker expressions have had keywords since pytest 8.3"
)


@pytest.mark.parametrize(
    ("expression", "named"),
    [
        ("canary", True),
        ("canary or smoke", True),
        ("canary and not slow", True),
        ("slow and canary", True),
        ("not (not canary)", True),
        ("canary and (smoke or load)", True),
        pytest.param("canary(step=1)", True, marks=NEEDS_KEYWORDS),
        ("", False),
        ("  ", False),
        ("not canary", False),
        ("not smoke", False),
        ("smoke", False),
        ("canary_like", False),
        ("canary or not canary", False),
        ("canary and not canary", False),
        ("smoke or not slow", False),
        (" or ".join(["canary", *(f"n{i}" for i in range(MOST_NAMES))]), True),
        (" or ".join(["canary", *(f"n{i}" for i in range(MOST_NAMES + 1))]), False),
    ],
)
def test_names_stage(expression: str, named: bool) -> None:
    assert names_stage(expression, "canary") is named


NAMES = st.sampled_from(["canary", "smoke", "slow", "load"])
EXPRESSIONS = st.recursive(
    NAMES,
    lambda inner: (
        inner.map("not ({})".format)
        | st.tuples(inner, inner).map(lambda two: f"({two[0]} and {two[1]})")
        | st.tuples(inner, inner).map(lambda two: f"({two[0]} or {two[1]})")
    ),
    max_leaves=8,
)


@given(EXPRESSIONS)
def test_a_stage_is_named_where_its_marker_can_make_the_difference(expression: str) -> None:
    others = ("smoke", "slow", "load")
    worlds = [
        dict(zip(others, [bool(n >> i & 1) for i in range(3)], strict=True)) for n in range(8)
    ]

    def holds(world: dict[str, bool], canary: bool) -> bool:
        return bool(eval(expression, {}, {**world, "canary": canary}))

    makes_the_difference = any(holds(w, True) and not holds(w, False) for w in worlds)
    assert names_stage(expression, "canary") is makes_the_difference


@given(EXPRESSIONS)
def test_what_the_negation_names_is_not_what_the_expression_forbids(expression: str) -> None:
    assert not names_stage(f"not canary and ({expression})", "canary")


LOCAL = {"platform": "local", "url": "http://a"}
CLUSTER = {"platform": "kubernetes", "url": "http://a", "context": "prod"}
STAGE = "name the stage: -m canary"
IMAGE = "give the version to release: --llmdeploy-image REF"


@pytest.mark.parametrize(
    ("keys", "expression", "image", "context", "missing"),
    [
        (LOCAL, "canary", "app:2", None, []),
        (LOCAL, "", None, None, [STAGE, IMAGE]),
        (LOCAL, "not smoke", "app:2", None, [STAGE]),
        (LOCAL, "canary", None, None, [IMAGE]),
        (CLUSTER, "canary", "app:2", "prod", []),
        (CLUSTER, "canary", "app:2", "dev", ["use the kubeconfig context 'prod' (now: dev)"]),
        (CLUSTER, "canary", "app:2", None, ["use the kubeconfig context 'prod' (now: none)"]),
        (
            CLUSTER,
            "smoke",
            None,
            "dev",
            [STAGE, IMAGE, "use the kubeconfig context 'prod' (now: dev)"],
        ),
    ],
)
def test_refusal(
    keys: dict[str, str],
    expression: str,
    image: str | None,
    context: str | None,
    missing: list[str],
) -> None:
    def refused(stage: str, protected: bool) -> str | None:
        environment = EnvironmentConfig.model_validate({**keys, "protected": protected})
        return refusal(
            stage,
            "prod-eu",
            environment,
            marker_expression=expression,
            image=image,
            context=context,
        )

    text = (
        "the environment 'prod-eu' is protected, so canary changes nothing there. "
        f"To run it: {'; '.join(missing)}"
    )
    assert refused("canary", True) == (text if missing else None)
    assert all(refused(stage, False) is None for stage in STAGES)
    assert all(refused(stage, True) is None for stage in READING_STAGES)


def test_load_needs_its_name_and_caps_but_no_image() -> None:
    keys: dict[str, Any] = {"url": "https://llm.example", "protected": True}
    caps = {"requests": 100, "tokens": 1000, "seconds": 60}

    def refused(expression: str, **more: Any) -> str | None:
        environment = EnvironmentConfig.model_validate({**keys, **more})
        return refusal(
            "load", "prod", environment, marker_expression=expression, image=None, context=None
        )

    assert refused("load", load_limits=caps) is None
    assert refused("", load_limits=caps) == (
        "the environment 'prod' is protected, so it takes no load. "
        "To run it: name the stage: -m load"
    )
    assert refused("load") == (
        "the environment 'prod' is protected, so it takes no load. "
        "To run it: set environments.prod.load_limits: what it may cost"
    )


CONFIG = """
environments:
  local: {url: "{url}", protected: true}
  cluster: {url: "{url}", protected: true, platform: kubernetes, context: prod}
  open: {url: "{url}"}
gates: {echo: {retries: 0, cases: [{id: a, prompt: "Say exactly: b", assert: ["equals: b"]}]}}
"""
CHANGING = """
import pathlib, pytest

@pytest.fixture
def changed():
    pathlib.Path("changed.txt").open("a").write("fixture ")

@pytest.mark.canary
def test_moves_traffic(changed):
    pathlib.Path("changed.txt").open("a").write("canary ")

@pytest.mark.load
def test_load():
    pathlib.Path("changed.txt").open("a").write("load ")
"""
KUBECONFIG = "apiVersion: v1\nkind: Config\ncontexts: [{name: %s}]\ncurrent-context: %s\n"


@pytest.fixture
def guarded(project: Project) -> Project:
    """A project whose tests leave a trace when they change something."""
    project.config(CONFIG)
    project.write("test_changes.py", CHANGING)
    project.write("kubeconfig", KUBECONFIG % ("dev", "dev"))
    return project


def changes(project: Project) -> str:
    path = project.path / "changed.txt"
    text = path.read_text().strip() if path.exists() else ""
    path.unlink(missing_ok=True)
    return text


PROTECTED = "the environment 'local' is protected, so {stage} changes nothing there. To run it: "
NO_LOAD = "the environment 'local' is protected, so it takes no load. To run it: "
CAPS = "set environments.local.load_limits: what it may cost"


def test_a_run_that_does_not_name_the_stage_skips_it(guarded: Project) -> None:
    done = guarded.run("-rs")
    assert (done.code, done.counts()) == (0, {"passed": 8, "skipped": 2}), done.out
    assert PROTECTED.format(stage="canary") + f"name the stage: -m canary; {IMAGE}" in done.out
    assert NO_LOAD + f"name the stage: -m load; {CAPS}" in done.out
    stages = {item["stage"] for item in done.report["items"]}
    assert stages == {"health", "smoke", "gates"}

    done = guarded.run("-rs", "-m", "not smoke", "--llmdeploy-image=app:2")
    assert (done.code, done.counts()) == (0, {"passed": 4, "skipped": 2, "deselected": 4}), done.out
    assert NO_LOAD + f"name the stage: -m load; {CAPS}" in done.out
    assert changes(guarded) == ""


def test_the_load_fixture_stands_for_its_marker(guarded: Project) -> None:
    caps = "load_limits: {requests: 99, tokens: 9999, seconds: 9}"
    guarded.config(CONFIG.replace("protected: true}", f"protected: true, {caps}}}", 1))
    guarded.write(
        "test_own.py",
        "import pytest\n"
        "@pytest.fixture\n"
        "def burst(llm_load):\n"
        "    llm_load.check({'rate': 5, 'duration': 1, 'objectives': ['error_rate <= 99%']})\n"
        "def test_load(burst): pass\n",
    )
    done = guarded.run("test_own.py", "-rs")
    assert (done.code, done.counts()) == (0, {"skipped": 1}), done.out
    assert NO_LOAD + "name the stage: -m load" in done.out


def test_a_stage_that_is_named_without_all_it_takes_is_an_error(guarded: Project) -> None:
    done = guarded.run("-m", "canary")
    assert (done.code, done.counts()) == (10, {"error": 1, "deselected": 9}), done.out
    (item,) = done.report["items"]
    assert item["verdict"] == "ERROR"
    assert item["reason"] == PROTECTED.format(stage="canary") + IMAGE
    assert "Traceback" not in done.out
    assert changes(guarded) == ""

    kubeconfig = {"KUBECONFIG": str(guarded.path / "kubeconfig"), "LLMDEPLOY_ENV": "cluster"}
    done = guarded.run("-m", "canary", "--llmdeploy-image=app:2", env=kubeconfig)
    assert (done.code, done.counts()) == (10, {"error": 1, "deselected": 9}), done.out
    assert done.report["items"][0]["reason"] == (
        "the environment 'cluster' is protected, so canary changes nothing there. "
        "To run it: use the kubeconfig context 'prod' (now: dev)"
    )
    assert changes(guarded) == ""


def test_a_stage_with_all_it_takes_runs(guarded: Project) -> None:
    guarded.write("kubeconfig", KUBECONFIG % ("prod", "prod"))
    kubeconfig = {"KUBECONFIG": str(guarded.path / "kubeconfig"), "LLMDEPLOY_ENV": "cluster"}
    done = guarded.run("-m", "canary", "--llmdeploy-image=app:2", env=kubeconfig)
    assert (done.code, done.counts()) == (0, {"passed": 1, "deselected": 9}), done.out
    assert changes(guarded) == "fixture canary"


def test_an_open_environment_needs_none_of_it(guarded: Project) -> None:
    done = guarded.run("test_changes.py", "--env=open")
    assert (done.code, done.counts()) == (0, {"passed": 2}), done.out
    assert changes(guarded) == "fixture canary load"
