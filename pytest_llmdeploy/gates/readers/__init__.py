"""Case files to raw cases, a format a module. What a case means is decided elsewhere."""
