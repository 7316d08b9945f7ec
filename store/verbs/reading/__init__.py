"""Verbs that only read: queries by drivers and by people, leaderboards, the history of a function, data frames."""
