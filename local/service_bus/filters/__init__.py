"""Which messages a subscription gets, and what its rules change in them.

`lexer`, `parser` (text → `tree`) and `evaluate` (tree and message → yes, no or not known) are the SQL
filters and actions; `values` holds the arithmetic; `envelope` is a message whose properties can be
read and changed; `rule` puts filter and action together, `wire` reads and writes rules as XML.
"""
