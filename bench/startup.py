"""What the plugin costs every pytest run that does not use it: its import, and a bare run."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from common import Timing, median, table, timed

RUNS = 7
IMPORT = (
    "import sys, time; import pytest; t = time.perf_counter(); import pytest_llmdeploy.plugin; "
)
IMPORT += "print(time.perf_counter() - t)"


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "pytest.ini").write_text("[pytest]\n")
        (root / "test_it.py").write_text("def test_it():\n    pass\n")
        base = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        without, with_us, imports = [], [], []
        for _ in range(RUNS):
            without.append(timed([*base, "-p", "no:llmdeploy"], root))
            with_us.append(timed(base, root))
            done = timed([sys.executable, "-c", IMPORT], root)
            imports.append(Timing(float(done.out), done.cpu, done.memory_mb, ""))
        assert "1 passed" in with_us[0].out, with_us[0].out
    one, two = median(without), median(with_us)
    table(
        ["median of 7", "seconds", "ratio"],
        [
            ["import pytest_llmdeploy.plugin, after pytest", f"{median(imports):.3f}", ""],
            ["pytest of one test, -p no:llmdeploy", f"{one:.2f}", "1.00"],
            ["the same with the plugin", f"{two:.2f}", f"{two / one:.2f}"],
        ],
    )


if __name__ == "__main__":
    main()
