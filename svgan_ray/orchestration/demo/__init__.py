"""The whole demo in one command."""
