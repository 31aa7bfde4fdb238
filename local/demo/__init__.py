"""The journey of `make run`, told aloud: from a question about law to a restored space."""
