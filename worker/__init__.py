"""The Celery worker and the `torpor` command: sessions go to sleep, wake up, and are erased."""

if __name__ == "worker":  # imported from the root of a checkout
    from torpor import _checkout

    _checkout.alias(__name__)
