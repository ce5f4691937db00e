"""The shop at the root, the admin under ``/admin/``."""

from django.contrib import admin
from django.urls import include, path

admin.site.site_header = "The Corner Shop"
admin.site.site_title = "The Corner Shop"

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include("example_project.shop.urls")),
]
