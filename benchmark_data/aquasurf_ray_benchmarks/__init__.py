"""Benchmarks of whole search spaces, one Parquet file each, which `aquasurf_ray.load_benchmark` finds by name."""
