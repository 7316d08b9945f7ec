"""The pictures of a report, one a file: each reads findings and returns a chart."""
