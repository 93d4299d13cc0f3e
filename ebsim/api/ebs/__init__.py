"""Actions of the EBS direct APIs."""
