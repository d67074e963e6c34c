"""Splits and leak checks (`splits`), metrics of scores (`ctr`) and of ranks (`ranking`), `protocol`."""
