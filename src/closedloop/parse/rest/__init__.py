"""How to ask CRMs: one object for each of them; none knows another."""
