"""One file a kind of source: each yields records and knows nothing of stores."""
