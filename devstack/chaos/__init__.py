"""Chaos runs: kill real service processes with SIGKILL under load, and compare the tables with LiveKit."""
