"""Methods whose nets are sparse from the start, and change their connections."""
