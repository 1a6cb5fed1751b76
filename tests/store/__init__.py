"""The contract of the store: the same tests on every database."""
