"""Background tasks for Django, in Celery's words."""
