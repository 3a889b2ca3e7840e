"""Where the service runs, one platform a module. Nothing here knows a stage."""
