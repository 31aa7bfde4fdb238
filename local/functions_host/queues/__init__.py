"""Service Bus queue triggers: receive, run, renew, settle."""
