"""What a study shows: figures, the numbers of its report, and the report's PDF."""
