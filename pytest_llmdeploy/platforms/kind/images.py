"""Images on their way into a cluster: built here, saved, and loaded into its nodes."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pytest_llmdeploy.config.release import BuildConfig
from pytest_llmdeploy.platforms.kind.programs import QUICK, ProgramError, run

LOAD_TIMEOUT = 300.0
_NO_BUILDX = "buildx"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def build(name: str, config: BuildConfig, root: Path, timeout: float) -> None:
    """Build an image and tag it `name`; raise ProgramError with Docker's last lines."""
    context = root / config.context
    argv = ["docker", "build", "--tag", name, "--file", str(context / config.dockerfile)]
    for key, value in config.arguments.items():
        argv += ["--build-arg", f"{key}={value}"]
    argv.append(str(context))
    setting = "kind.build_timeout"
    try:
        run(argv, timeout=timeout, setting=setting)
    except ProgramError as error:
        if _NO_BUILDX not in error.output:
            raise
        run(argv, timeout=timeout, setting=setting, variables={"DOCKER_BUILDKIT": "0"})


def image_id(image: str) -> str | None:
    """Return the id of an image of this machine's Docker; None where it has none of that name."""
    try:
        argv = ["docker", "image", "inspect", "--format", "{{.Id}}", image]
        return run(argv, timeout=QUICK).strip()
    except ProgramError:
        return None


def missing(images: Sequence[str], cluster: str) -> list[str]:
    """Return the images that some node of a cluster lacks, or has otherwise than Docker here.

    Where Docker counts ids otherwise than the nodes (its containerd store does), all are missing.
    """
    nodes = run(["kind", "get", "nodes", "--name", cluster, "--quiet"], timeout=QUICK).split()
    return [
        image
        for image in images
        if (id_here := image_id(image)) is None
        or any(_id_on(node, image) != id_here for node in nodes)
    ]


def _id_on(node: str, image: str) -> str | None:
    inspect = ["crictl", "inspecti", "--output", "go-template", "--template", "{{.status.id}}"]
    try:
        return run(["docker", "exec", node, *inspect, image], timeout=QUICK).strip()
    except ProgramError:
        return None


def load(images: Sequence[str], cluster: str, folder: Path) -> None:
    """Load images into all nodes of a cluster, by one archive below `folder`."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="images-") as temporary:
        archive = str(Path(temporary) / "images.tar")
        try:
            _save(images, archive)
            _load(archive, cluster)
        except ProgramError:
            # Docker's containerd store saves all platforms of an image, and has not all of them.
            machine = _ARCHITECTURES.get(platform.machine())
            if machine is None:
                raise
            Path(archive).unlink(missing_ok=True)
            try:
                _save(images, archive, "--platform", f"linux/{machine}")
            except ProgramError as error:
                if "unknown flag" not in error.output:
                    raise
            if not Path(archive).exists():
                raise
            _load(archive, cluster)


def _save(images: Sequence[str], archive: str, *options: str) -> None:
    run(["docker", "image", "save", "--output", archive, *options, *images], timeout=LOAD_TIMEOUT)


def _load(archive: str, cluster: str) -> None:
    run(["kind", "load", "image-archive", archive, "--name", cluster], timeout=LOAD_TIMEOUT)
