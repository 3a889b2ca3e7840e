"""Suites that are promptfoo configs, read and judged as their own tool does."""
