"""Model plugins, one file a model; each entry point in pyproject.toml names one."""
