"""Live block devices: a local overlay over a block map, dirty blocks, hydration, freezing."""
