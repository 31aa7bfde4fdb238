"""Service Bus on one machine: an AMQP 1.0 broker that the unmodified Azure SDK cannot tell apart.

From the wire inwards: `server` (a socket) → `session`, `attach`, `links` (who sends, who receives)
→ `management`, `cbs` (requests beside the links) → `namespace` → `core`, `box`, `sessions` (the
rules of a queue) → `store` (what survives kill -9). `codec`, `decode`, `frames` and `message` know
bytes only; `admin`, `atom` and `web` show queues over HTTP.
"""
