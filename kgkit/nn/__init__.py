"""Equations that several papers share, one family a file."""
