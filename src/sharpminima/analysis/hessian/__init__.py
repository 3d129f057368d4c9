"""Eigenvalues, density and trace of the Hessian."""
