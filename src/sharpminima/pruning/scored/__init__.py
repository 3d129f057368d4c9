"""Methods that prune by a criterion, before training or after it."""
