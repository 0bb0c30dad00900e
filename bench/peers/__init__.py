"""What the service is measured against: servers that take the same webhooks in other ways."""
