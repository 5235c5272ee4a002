"""PostgreSQL and the local spool: every statement lives here."""
