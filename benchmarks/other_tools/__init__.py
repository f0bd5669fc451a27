"""Reads annotation files with other tools; imports nothing of gem-label, whose dependencies they may not share."""
