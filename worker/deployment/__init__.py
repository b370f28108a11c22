"""One deployment: its settings, the services that they name, its sessions, its events, Celery's configuration."""
