"""The quality-gate stage: cases, prompts, assertions, scores. Reaches models through ports."""
