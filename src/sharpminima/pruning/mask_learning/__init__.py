"""Methods that train masks, gates or scores."""
