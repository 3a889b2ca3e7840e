"""``platform: local`` for releases: replicas are processes of this machine, with Envoy in front.

A supervisor process owns them and outlives pytest; `LocalFleet` tells it what is wanted, by files.
Nothing about how a release proceeds belongs here.
"""
