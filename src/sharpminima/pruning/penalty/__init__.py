"""Methods that train under a penalty, then remove the least."""
