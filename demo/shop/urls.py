"""The addresses of this room."""

from django.urls import path

from shop import views

urlpatterns = [
    path("", views.show, name="shop"),
    path("rows/", views.rows, name="shop-rows"),
]
