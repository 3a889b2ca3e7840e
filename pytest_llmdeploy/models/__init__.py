"""Clients of OpenAI-compatible endpoints, one a module. Nothing here knows a stage."""
