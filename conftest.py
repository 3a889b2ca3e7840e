"""Plugins that the tests need must be named at the root."""

pytest_plugins = ["pytester"]
