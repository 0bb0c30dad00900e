"""What a newcomer gets wrong, looked for in order, each fault with what to do about it."""
