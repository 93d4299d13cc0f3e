"""Actions of AWS KMS, as far as EBS needs the names of keys."""
