"""What an image is on this machine."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_llmdeploy.config.models import EnvironmentConfig
from pytest_llmdeploy.config.release import BlueGreenConfig
from pytest_llmdeploy.platforms.local_fleet.desired import Probe, Template
from pytest_llmdeploy.platforms.local_fleet.images import template
from pytest_llmdeploy.platforms.processes import REFERENCE_COMMAND


def made(image: str, released: dict[str, str] | None = None, /, **environment: Any) -> Template:
    config = environment.pop("config", {})
    return template(
        "green",
        image,
        released or {},
        environment_name="dev",
        environment=EnvironmentConfig.model_validate(environment),
        config=BlueGreenConfig.model_validate(config),
    )


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("stable", "0.9"),
        ("llm:2.0.0", "2.0.0"),
        ("registry:5000/team/llm:2.0.0", "2.0.0"),
        ("registry:5000/team/llm", "registry:5000/team/llm"),
        ("llm@sha256:12ab", "12ab"),
        ("2.0.0", "2.0.0"),
        ("llm:", "llm:"),
    ],
)
def test_the_reference_service_has_the_version_of_the_tag(image: str, version: str) -> None:
    found = made(image, reference={"version": "0.9"})
    assert (found.command, found.error) == (REFERENCE_COMMAND, None)
    assert found.variables["LLM_VERSION"] == version


def test_a_stable_image_of_its_own_name_has_its_tag() -> None:
    found = made("llm:1", reference={"version": "0.9"}, stable_image="llm:1")
    assert found.variables["LLM_VERSION"] == "1"


def test_of_variables_set_twice_the_later_wins() -> None:
    found = made(
        "llm:2",
        {"D": "release", "COLOR": "pink"},
        reference={"engine": "scripted"},
        variables=dict.fromkeys("ABCD", "environment") | {"LLM_ENGINE": "none"},
        config={"variables": dict.fromkeys("BCD", "stage")},
        images={"llm:2": {"variables": {**dict.fromkeys("CD", "image"), "LLM_VERSION": "two"}}},
    )
    assert [found.variables[name] for name in "ABCD"] == [
        "environment",
        "stage",
        "image",
        "release",
    ]
    assert found.variables["LLM_ENGINE"] == "scripted"
    assert found.variables["LLM_VERSION"] == "two"
    assert (found.variables["COLOR"], found.variables["ENVIRONMENT"]) == ("green", "dev")


def test_commands() -> None:
    images = {"llm:2": {"command": "serve --two {port}"}, "llm:3": {"variables": {"A": "1"}}}
    common: dict[str, Any] = {"command": "serve {port}", "images": images}
    assert made("llm:2", **common).command == ("serve", "--two", "{port}")
    assert made("llm:3", **common).command == ("serve", "{port}")
    assert made("stable", **common).command == ("serve", "{port}")
    own = made("llm:2", reference={}, images=images)
    assert own.command == ("serve", "--two", "{port}")


@pytest.mark.parametrize(
    ("environment", "image", "error"),
    [
        (
            {"command": "serve", "images": {"a": {}, "b": {}}},
            "llm:9",
            "image 'llm:9' is not among environments.dev.images: a, b",
        ),
        (
            {"command": "serve"},
            "llm:9",
            "image 'llm:9' is not among environments.dev.images: there are none",
        ),
        (
            {"url": "http://here", "images": {"a": {}}},
            "a",
            "image 'a' has no command: give environments.dev.images.a.command",
        ),
        (
            {"reference": {}},
            "drill.invalid/llm:1",
            "image 'drill.invalid/llm:1' cannot be had: .invalid names no registry",
        ),
    ],
)
def test_images_that_cannot_be_run(environment: Any, image: str, error: str) -> None:
    found = made(image, **environment)
    assert (found.command, found.error) == ((), error)


def test_probes_and_times() -> None:
    config = {
        "readiness": {"path": "/r", "delay": 1, "period": 2, "timeout": 3, "failures": 4},
        "pre_stop": 5,
        "termination_grace_period": 60,
    }
    found = made("llm:1", reference={}, config=config)
    assert found.readiness == Probe("/r", 1, 2, 3, 4)
    assert found.liveness == Probe("/health", 30, 10, 1, 3)
    assert (found.pre_stop, found.grace) == (5, 55)
    assert found.variables["LLM_GRACE"] == "53", "it ends by itself before it is killed"
