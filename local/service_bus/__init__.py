"""Service Bus on one machine: an AMQP 1.0 broker that the unmodified Azure SDK cannot tell apart.

From the wire inwards: `front` (which protocol), `websocket`, `tls` → `server` (a socket) → `session`,
`attach`, `links` (who sends, who receives) → `management`, `cbs`, `sas` (requests beside the links,
and who may) → `namespace` → `topics`, `forwarding` (copies, and what goes on by itself) → `core`,
`box`, `sessions` (the rules of a queue) → `store` (what survives kill -9). `filters/` decides what a
subscription gets. `codec`, `decode`, `frames` and `message` know bytes only; `admin`, `atom`,
`settings` and `web` are the administration over HTTP.
"""
