"""The verbs: what can be done to a region, one file each, as plain functions."""
