"""Masks as polygons: exact ones, outlines within a tolerance, and one polygon for a whole mask."""
