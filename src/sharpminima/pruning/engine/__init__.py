"""What methods are made of: searches, stages, criteria, distributions, schedules, units."""
