"""Releases from a plain script, without pytest."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmdeploy.config.loader import load_config
from pytest_llmdeploy.fixtures.release import BlueGreenFixture
from pytest_llmdeploy.run import OUTPUT_ROOT, Run, new_run_id

if TYPE_CHECKING:
    from collections.abc import Callable


@contextmanager
def environment(
    path: str | os.PathLike[str] = "llmdeploy.yaml",
    name: str = "local",
    *,
    output: str | os.PathLike[str] | None = None,
    keep: bool = False,
    say: Callable[[str], None] = print,
) -> Iterator[BlueGreenFixture]:
    """Yield what the fixture ``blue_green`` is in a test, for the environment `name` of the file.

    ``with environment("llmdeploy.yaml", "kind") as blue_green: blue_green.deploy("llm:2")``

    What was provisioned ends with the block, unless `keep`. Records go to the folder `output`
    (default: ``.llmdeploy/<run id>`` beside the file). `say` hears what a person should know at the
    end. Raises ConfigError for a file that cannot be used.
    """
    from pytest_llmdeploy.assembly import end_run
    from pytest_llmdeploy.assembly.releases import Releases

    loaded = load_config(Path(path), name)
    run_id = new_run_id()
    folder = Path(output) if output is not None else loaded.root / OUTPUT_ROOT / run_id
    run = Run(id=run_id, output=folder.absolute(), environment=name, keep=keep)
    releases = Releases(run, lambda: lambda _line: None)
    try:
        yield BlueGreenFixture(releases, loaded)
    finally:
        for line in [*releases.close(), *end_run(run)]:
            say(line)
