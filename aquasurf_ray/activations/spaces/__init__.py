"""Search spaces: schemas, enumeration into unique functions, tables and their cache on disk."""
