"""Ask and tell: a run whose trainings are the user's own loop, in any number of processes. Ray is not needed."""
