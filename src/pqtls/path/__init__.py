"""Experiments to attempts to a diagnosis: which fault, if any, a network path has."""
