"""The router's pages in the console: a form, a map, an answer with its reasons, the register."""
