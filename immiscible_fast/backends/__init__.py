"""How an assignment is solved: one file a backend, imported when it is first wanted."""
