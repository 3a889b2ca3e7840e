"""Run the reference service: ``python -m pytest_llmdeploy.reference``."""

from __future__ import annotations

import sys

from pytest_llmdeploy.reference.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
