"""What the pages of docs/results are made by (docs/results.py)."""
