"""What an operator's tools ask: metrics for Prometheus, and probes of liveness and readiness, on an HTTP port."""
