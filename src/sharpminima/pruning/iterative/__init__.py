"""Methods that prune in rounds of training."""
