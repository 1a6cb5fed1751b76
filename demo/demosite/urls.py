"""The addresses of the demo: an entrance hall, four rooms, the admin, examples."""

from django.contrib import admin
from django.db.transaction import non_atomic_requests
from django.templatetags.static import static
from django.urls import include, path
from django.views.generic import RedirectView

from demosite import examples, provider, views

urlpatterns = [
    path("", views.home, name="home"),
    path("lengths/", include("lengths.urls")),
    path("signup/", include("signup.urls")),
    path("shop/", include("shop.urls")),
    path("office/", include("office.urls")),
    path("admin/", admin.site.urls),
    # For pages that name no icon, like the admin's.
    path("favicon.ico", non_atomic_requests(RedirectView.as_view(url=static("demo/icon.svg")))),
    path("examples/page/", examples.page, name="example-page"),
    path("examples/slow/", examples.slow, name="example-slow"),
    path("examples/provider/<slug:account>/", provider.message, name="example-provider"),
]
