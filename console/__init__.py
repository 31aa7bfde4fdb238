"""How people see and steer: read-only endpoints, one page, and the commands over them."""
