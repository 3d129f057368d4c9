"""What a study says: tables, numbers, verdicts, provenance, notebooks and the paper."""
