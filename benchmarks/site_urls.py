"""The pages that ``benchmarks.probes`` reads."""

from django.contrib import admin
from django.urls import include, path

from aftercommit import metrics

urlpatterns = [
    path("admin/", admin.site.urls),
    path("jobs/", include("aftercommit.dashboard.urls")),
    path("metrics", metrics.view(token=None)),
]
