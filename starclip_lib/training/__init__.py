"""Trainings: batches, the loop, and the recipes of the paper."""
