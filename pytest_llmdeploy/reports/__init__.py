"""Where results go, one writer a module; they consume the events of a run and judge nothing."""
