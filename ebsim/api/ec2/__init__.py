"""Actions of Amazon EC2, a module for each group that belongs together."""
