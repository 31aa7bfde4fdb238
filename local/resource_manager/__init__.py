"""Azure Resource Manager on one machine: evaluates templates and makes what they declare.

`python -m local.resource_manager` serves it. Read in this order: `server` (the wire), `stacks`
and `deployments` (what is asked for), `template` (what a template means), `engine` (making it),
`providers/` (one per type: what making it means here). SUPPORTED.md lists types and functions.
"""
