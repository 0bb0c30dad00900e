"""A storm of `kill -9`: real service processes die at random under load, and LiveKit's truth is the judge."""
