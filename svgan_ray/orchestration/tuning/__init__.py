"""The parts of a study: its plan, one trial, the search, what it tells; see `tune.py`."""
