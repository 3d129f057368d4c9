"""PSP-entropy and what it is counted from."""
