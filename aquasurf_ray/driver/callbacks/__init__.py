"""Who is told what happens in a run: progress, JSON log, Prometheus, trackers, live status."""
