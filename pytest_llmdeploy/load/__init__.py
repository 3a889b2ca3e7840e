"""Stage: arrivals → streams → ledger → verdicts on the service-level objectives."""
