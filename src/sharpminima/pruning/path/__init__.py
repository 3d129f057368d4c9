"""Methods that follow a path of nets from the empty one."""
