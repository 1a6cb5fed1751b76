"""A site with tenants, as django-tenants has them."""

import json
import os

SECRET_KEY = "only for tests"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ENGINE = "django_tenants.postgresql_backend"
DATABASES = {"default": {**json.loads(os.environ["SITE_DATABASE"]), "ENGINE": ENGINE}}
DATABASE_ROUTERS = ["django_tenants.routers.TenantSyncRouter"]
SHARED_APPS = ["django_tenants", "customers", "aftercommit", "django.contrib.contenttypes"]
TENANT_APPS = ["shop"]
INSTALLED_APPS = [*SHARED_APPS, *TENANT_APPS]
TENANT_MODEL, TENANT_DOMAIN_MODEL = "customers.Client", "customers.Domain"
TASKS = {
    "default": {
        "BACKEND": "aftercommit.DatabaseBackend",
        "QUEUES": [],
        "OPTIONS": {"middleware": ["aftercommit.integrations.tenants.middleware"]},
    },
}
