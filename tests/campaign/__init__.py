"""Whether faults lose or change data: `make campaign` runs all parts at length, tests/campaign/test_*.py for seconds."""
