"""HTTP triggers and the administration calls, on one port."""
