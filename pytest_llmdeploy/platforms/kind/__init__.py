"""Kubernetes clusters on this machine, made by the ``kind`` program for a run, or kept for many.

What runs in them is the business of `platforms/kubernetes`; Docker, kind and helm are asked only
here.
"""
