"""Benchmarks, one command each: `python -m benchmarks.NAME`. See benchmarks/README.md."""
