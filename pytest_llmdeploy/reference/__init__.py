"""The LLM service that rehearsals run: a small real model or scripted answers, with planted faults.

It is a program of its own: nothing here imports the rest of the package but its errors.
"""
