"""The llmdeploy command, one subcommand a module."""
