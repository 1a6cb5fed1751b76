"""Sign up: a welcome mail for every account that was committed, and no other."""
