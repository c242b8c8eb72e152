"""Measurement on public and synthetic data.

Nothing imports it, so a synthetic finger can never reach a real gallery.
"""
