"""Releases: steps, journal, proof and the way back. Knows the world through ports only."""
