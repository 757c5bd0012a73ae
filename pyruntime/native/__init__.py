"""The compiled module, in Python's terms; nothing else imports it."""
