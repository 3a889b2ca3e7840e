"""Names of the files in the folder of a load run's record."""

from __future__ import annotations

LEDGER = "ledger.jsonl.zst"
LOG = "generator.log"
"""What the generator printed."""
SUMMARY = "summary.json"
