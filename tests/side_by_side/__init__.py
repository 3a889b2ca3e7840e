"""promptfoo configs of our own, each with what promptfoo itself says of its rows."""
