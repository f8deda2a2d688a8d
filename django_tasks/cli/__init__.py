"""What ``manage.py tasks`` does. The command itself only declares arguments; each function here returns an exit status."""
