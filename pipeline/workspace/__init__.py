"""What stands in a workspace: paths, stores, lineage, and what may be deleted."""
