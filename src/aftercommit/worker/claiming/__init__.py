"""Which jobs this process claims, and how many."""
