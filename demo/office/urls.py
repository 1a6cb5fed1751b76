"""The addresses of this room."""

from django.urls import path

from office import views

urlpatterns = [
    path("", views.show, name="office"),
    path("import/", views.add_import, name="office-import"),
    path("send/", views.send, name="office-send"),
    path("race/", views.race, name="office-race"),
    path("report/", views.run_report, name="office-report"),
    path("rows/", views.rows, name="office-rows"),
]
