"""Methods that prune while they train."""
