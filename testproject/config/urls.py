"""Addresses: the shop's front page, the newest report, the admin."""

from django.contrib import admin
from django.urls import path

from shop import views

urlpatterns = [
    path("", views.front, name="front"),
    path("orders/", views.order, name="order"),
    path("report/", views.report, name="report"),
    path("admin/", admin.site.urls),
]
