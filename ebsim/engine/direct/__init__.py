"""Snapshots written and read block by block, as the EBS direct APIs do it."""
