"""The dashboard: a page in the user's browser, served by a process of this user's own on 127.0.0.1 (docs/dashboard.md, decision 0064)."""
