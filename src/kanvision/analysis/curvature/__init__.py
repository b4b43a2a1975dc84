"""Loss landscape, Hessian spectrum and Lanczos iteration."""
