"""Peers of the service: other servers that take the same webhooks."""
