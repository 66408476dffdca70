"""Schedules: one cron expression, its spelling for every scheduler, and the one that runs here."""
