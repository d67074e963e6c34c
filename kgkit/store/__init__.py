"""The graph databases: `port.py` says what they do, one adapter each does it, `open.py` picks one by URI."""
