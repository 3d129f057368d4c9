"""The loss on a plane and on the line between two minima."""
