"""Configuration to pytest items. Like fixtures, it meets adapters through the assembly only."""
