"""``path("async/", include("aftercommit.django_async.urls"))``: health, schedule, progress."""

from django.urls import path

from aftercommit.django_async import views

app_name = "django_async"
urlpatterns = [
    path("health/", views.health, name="health"),
    path("schedule/", views.schedule, name="schedule"),
    path("progress/<path:reference>/", views.progress, name="progress"),
]
