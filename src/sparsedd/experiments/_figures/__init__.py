"""Figures: those of the paper as data, how they are drawn, and what they claim."""
