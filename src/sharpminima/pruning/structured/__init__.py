"""Methods that remove filters and hidden units by a score."""
