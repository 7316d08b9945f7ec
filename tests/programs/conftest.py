"""Nothing in here is collected: some programs register operators as soon as they are imported."""

collect_ignore_glob = ["*.py"]
