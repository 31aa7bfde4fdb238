"""The loop that moves a space through the steps of an operation, one message at a time.

Two rooms run operations (provisioning, backups), so the loop stands in the kernel; what a step
does stands in the room. Source: control-plane.md 3.5, variant H of its model check.
"""
