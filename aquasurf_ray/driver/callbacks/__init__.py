"""The callbacks that report a run: progress, JSON log, Prometheus, trackers, live status."""
