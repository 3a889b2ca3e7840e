"""Plugins that the tests need must be named at the root."""

import signal

pytest_plugins = ["pytester"]

# A shell starts background jobs with Ctrl-C ignored, and the tests' pytest runs would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
