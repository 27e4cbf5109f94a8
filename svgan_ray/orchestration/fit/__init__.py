"""Fitting: footage to a generator and an encoder of its people."""
