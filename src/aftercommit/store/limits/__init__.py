"""Jobs with a limit key: who of them gets a slot, who waits aside, who is next."""
