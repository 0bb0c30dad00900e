"""The doctor: checks for common misconfigurations, in order, with a fix for each."""
