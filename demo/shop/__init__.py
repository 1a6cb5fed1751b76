"""Admin: a product is edited there, and a job brings its offers up to date."""
