"""llmdeploy.yaml: its models, loading, variables and JSON Schema.

Knows nothing of pytest or of stages.
"""
