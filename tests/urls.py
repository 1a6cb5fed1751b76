"""The pages that tests look at."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("jobs/", include("aftercommit.dashboard.urls")),
]
