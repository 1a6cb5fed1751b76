"""The views of Django Async."""

from django.urls import include, path

urlpatterns = [path("async/", include("aftercommit.django_async.urls"))]
