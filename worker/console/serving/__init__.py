"""Serving the console: from its port through the checks of each request to the page that answers it."""
