"""Scaling-study benchmark harness: how does accuracy grow with the amount of pre-training data?"""

__version__ = "0.1.0"
