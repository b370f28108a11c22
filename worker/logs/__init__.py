"""The log of workers, of beat and of `torpor serve-metrics`: its format, and each outage told once."""
