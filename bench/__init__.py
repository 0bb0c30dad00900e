"""Measurements against peers, side by side in one run: `uv run bench --help`."""
