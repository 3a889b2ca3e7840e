"""The package's public names are there, and cost nothing until they are used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import pytest_llmdeploy


@pytest.mark.parametrize("name", pytest_llmdeploy.__all__)
def test_every_public_name_exists(name: str) -> None:
    assert getattr(pytest_llmdeploy, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'canary'"):
        getattr(pytest_llmdeploy, "canary")  # noqa: B009 - the point of the test


def test_importing_the_package_loads_nothing_of_it() -> None:
    code = "import pytest_llmdeploy, sys; print([m for m in sys.modules if 'llmdeploy.' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
