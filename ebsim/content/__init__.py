"""What bytes are called and how they are packed: digest, fingerprint, codec.  No I/O."""
