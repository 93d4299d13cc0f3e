"""Data Lifecycle Manager."""
