"""One self-contained page of all audits: what it shows (`view`), and how (`write`)."""
