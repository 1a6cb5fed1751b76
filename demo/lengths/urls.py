"""The addresses of this room."""

from django.urls import path

from lengths import views

urlpatterns = [
    path("", views.show, name="lengths"),
    path("add/", views.add, name="lengths-add"),
    path("rows/", views.rows, name="lengths-rows"),
]
