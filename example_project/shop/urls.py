"""The shop's pages."""

from django.urls import path

from example_project.shop import views

app_name = "shop"

urlpatterns = [
    path("", views.shelves, name="shelves"),
    path("orders/", views.orders, name="orders"),
    path("orders/<int:pk>/", views.order, name="order"),
    path("account/", views.account, name="account"),
]
