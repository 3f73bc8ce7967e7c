"""Backups: one file with everything that makes this server this server, and the way back (docs/recovery.md)."""
