"""Recycle Bin: rules for what is kept of what is deleted."""
