"""The parts of the HTML page: markup, numbers, charts and sections, as functions of text.

Nothing here writes files or judges; what is foreign becomes markup in ``markup.py`` alone.
"""
