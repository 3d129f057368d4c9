"""What every room stands on: errors, files, settings; no torch."""
