"""Trainings: devices and processes, batches, the loop, and the recipes of the paper."""
