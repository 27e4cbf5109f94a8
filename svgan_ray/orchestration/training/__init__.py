"""The parts of a training: its plan and data, what a worker runs, validation, the model; see `train.py`."""
