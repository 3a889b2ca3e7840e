"""The health and smoke stages: single requests whose answers must have the right shape."""
