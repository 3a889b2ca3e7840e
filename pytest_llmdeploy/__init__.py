"""The release of an LLM service as a pytest run."""
