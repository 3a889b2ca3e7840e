"""A new version gets a growing share of the traffic, and is judged at each step.

Here is how a canary proceeds and what it is judged by; how traffic is split and where figures come
from is behind `ports.Router` and `ports.MetricsSource`.
"""
