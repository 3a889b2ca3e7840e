"""Suites that are evals of OpenAI, read and judged as their own tool does."""
