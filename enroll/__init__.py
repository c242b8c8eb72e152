"""Images and transactions in, templates and quality out. Knows no person and no network."""
