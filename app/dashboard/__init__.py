"""The page under `/dashboard`: who may see it, what it shows, and how it stays true without a reload."""
