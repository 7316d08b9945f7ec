"""One run from its lease to its end: session, loop, claims, preparation, stop conditions."""
