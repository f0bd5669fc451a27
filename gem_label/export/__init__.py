"""Runs written out in formats that other tools read."""
