"""The addresses of this room."""

from django.urls import path

from signup import views

urlpatterns = [
    path("", views.show, name="signup"),
    path("create/", views.sign_up, name="signup-create"),
    path("rows/", views.rows, name="signup-rows"),
]
