"""The race, counted: the same site with each queue as it comes, with a cure, and relayed."""
