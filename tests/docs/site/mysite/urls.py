"""The addresses that a page finds before it adds its own."""

urlpatterns = []
