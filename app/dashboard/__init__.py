"""The live view of all agents: the data behind the page under `/dashboard`."""
