"""The runtime of the services: bus, database, delivery, health. No domain is here."""

SERVICES = ("intake", "review", "notify", "export")
"""Each owns one PostgreSQL schema of its name, one role `yiqi_<name>`, and its consumers."""
