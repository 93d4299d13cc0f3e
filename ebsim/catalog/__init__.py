"""What exists: snapshots and volumes, as rows and as manifests."""
