"""Values to bytes for a platform, and bytes to outcomes; no I/O."""
