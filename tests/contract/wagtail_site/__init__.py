"""A site with Wagtail; its Python has Wagtail, that of the tests has not."""
