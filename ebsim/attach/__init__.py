"""Block devices shown to the world: NBD and FUSE.  Sees nothing but ``BlockDevice``."""
