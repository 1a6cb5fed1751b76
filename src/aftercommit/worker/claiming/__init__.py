"""Which jobs this process takes, and how many."""
