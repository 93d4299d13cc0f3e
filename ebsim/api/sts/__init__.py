"""Actions of AWS STS."""
