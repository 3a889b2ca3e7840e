"""`ports.Router` on Kubernetes: VirtualService, HTTPRoute, or numbers of replicas.

What rules mean is pure and stands in `rules.py` and the two dialects; one module writes objects.
"""
