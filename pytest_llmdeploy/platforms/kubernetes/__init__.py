"""Versions as Deployments of a Kubernetes cluster, their users behind a Service.

Only `transport.py` imports the ``kubernetes`` package, and only `api.py` talks through it.
"""
