"""Steps that measure G (gradual) and 1-S (rewind) of one run at one level, a file a subject."""
