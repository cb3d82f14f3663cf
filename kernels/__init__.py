"""Device code. Nothing in here knows of the package that calls it: no validation, no
environment."""
